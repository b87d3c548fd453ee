"""vLLM's messages in this service's words: the keys of its configuration for vLLM's flags and variables."""

from __future__ import annotations

import re

_KEYS = {
    "--enable-auto-tool-choice and --tool-call-parser": "`tool_parser` of the model's entry",
    "--tool-call-parser": "`tool_parser` of the model's entry",
    "--reasoning-parser and/or --reasoning-config": "`reasoning_parser` of the model's entry",
    "--reasoning-parser": "`reasoning_parser` of the model's entry",
    "--limit-mm-per-prompt": "`images_per_prompt` of the model's entry",
    "limit_mm_per_prompt": "`images_per_prompt` of the model's entry",
    "--allowed-media-domains": "`images.allowed_domains`",
    "VLLM_MAX_IMAGE_PIXELS": "`images.max_megapixels`",
    "VLLM_MAX_MEDIA_DOWNLOAD_SIZE_MB": "`images.max_mib`",
    "VLLM_IMAGE_FETCH_TIMEOUT": "`images.fetch_timeout_s`",
    "max_model_len": "`engine_args.max_model_len`",
    "This vLLM engine": "This service",
}
_KEY = re.compile(r"`?(?<![\w.-])(" + "|".join(map(re.escape, _KEYS)) + r")(?![\w-])`?")
_NOT_HERE = re.compile(r"VLLM_[A-Z_]+|--trust-request-[a-z-]+|--allowed-local-media-path|skip_tokenizer_init")
"""What nobody can set here: a sentence that says to is left out."""
_FLAG = re.compile(r"`?--([a-z][a-z0-9]*(?:-[a-z0-9]+)+)`?")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_EXTRAS = re.compile(r" \(parameter=[^()]*?(, value=.*)?\)$", re.DOTALL)
_FIELD = re.compile(r"[`']?([a-z][a-z0-9_]*)[`']?(?: must |=\S+ cannot )")
_PHRASES = {
    re.compile(r"Chat template is passed with request, but .*", re.DOTALL): (
        "a request may not bring a chat template: leave out `chat_template`"
    ),
    re.compile(r"(Per-request \w+ are disabled).*", re.DOTALL): r"\1: leave it out",
}
_CODES = {
    re.compile(r"maximum (context|model) length|exceeds model's maximum|exceeds the max_model_len"): (
        "context_length_exceeded"
    ),
    re.compile(r"^The model .* does not exist"): "model_not_found",
}


def reworded(message: str) -> str:
    """A message as an operator of this service, or their client, understands it."""
    message = _EXTRAS.sub("", message).strip()
    for phrase, ours in _PHRASES.items():
        message = phrase.sub(ours, message)
    sentences = _SENTENCE.split(message)
    told = [_with_our_keys(one) for one in sentences]
    kept = [one for one in told if not _NOT_HERE.search(one)]
    return " ".join(kept or [_NOT_HERE.sub("a setting this service does not offer", one) for one in told])


def code_of(message: str) -> str | None:
    """OpenAI's code for what vLLM says in words only."""
    return next((code for phrase, code in _CODES.items() if phrase.search(message)), None)


def field_of(message: str) -> str | None:
    """The request's field that a message begins with."""
    return found[1] if (found := _FIELD.match(message)) else None


def _with_our_keys(sentence: str) -> str:
    sentence = _KEY.sub(lambda found: _KEYS[found[1]], sentence)
    if _NOT_HERE.search(sentence):
        return sentence
    return _FLAG.sub(lambda found: f"`engine_args.{found[1].replace('-', '_')}`", sentence)
