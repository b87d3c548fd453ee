"""The committed checkpoints: sizes, special tokens, template. No torch is needed."""

import json

import pytest

from tools.demo.facts import CHECKPOINTS, REPLICA_TOOL, TEXT_MODEL, VISION_MODEL

tokenizers = pytest.importorskip("tokenizers")
LIMITS = {TEXT_MODEL: 1_500_000, VISION_MODEL: 2_300_000}
BOTH = pytest.mark.parametrize("name", list(LIMITS))


def render(name, messages, **more):
    """The prompt, as vLLM's renderer would write it."""
    jinja2 = pytest.importorskip("jinja2")
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = env.from_string((CHECKPOINTS / name / "chat_template.jinja").read_text())
    return template.render(messages=messages, bos_token="<|startoftext|>", **more)


@BOTH
def test_size(name):
    assert sum(path.stat().st_size for path in (CHECKPOINTS / name).iterdir()) < LIMITS[name]


@BOTH
def test_special_tokens_have_lfm2_ids(name):
    tokenizer = tokenizers.Tokenizer.from_file(str(CHECKPOINTS / name / "tokenizer.json"))
    wanted = {
        "<|pad|>": 0, "<|startoftext|>": 1, "<|endoftext|>": 2, "<|im_start|>": 6, "<|im_end|>": 7,
        "<|tool_list_start|>": 8, "<|tool_list_end|>": 9, "<|tool_call_start|>": 10,
        "<|tool_call_end|>": 11, "<|tool_response_start|>": 12, "<|tool_response_end|>": 13,
    }  # fmt: skip
    assert {token: tokenizer.token_to_id(token) for token in wanted} == wanted


@BOTH
def test_any_text_survives_the_tokenizer(name):
    tokenizer = tokenizers.Tokenizer.from_file(str(CHECKPOINTS / name / "tokenizer.json"))
    for text in ("Grüße, 日本語 🎉", "\x00\x7f\t\r\n", "  two  spaces ", "WHAT IS THE PORT?"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


@BOTH
def test_config_has_what_vllm_reads(name):
    config = json.loads((CHECKPOINTS / name / "config.json").read_text())
    text = config.get("text_config", config)
    assert text["block_dim"] == text["conv_dim"] == text["conv_dim_out"] == text["hidden_size"]
    assert text["architectures"] == ["Lfm2ForCausalLM"]


@BOTH
def test_content_may_be_a_string_or_parts(name):
    plain = render(name, [{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    assert plain == "<|startoftext|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert render(name, [{"role": "user", "content": parts}], add_generation_prompt=True) == plain


def test_images_become_placeholders():
    parts = [{"type": "image"}, {"type": "image_url"}, {"type": "text", "text": "Same?"}]
    assert "user\n<image><image>Same?<|im_end|>" in render(VISION_MODEL, [{"role": "user", "content": parts}])


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_tools_calls_and_results(system):
    messages = [{"role": "system", "content": system}] if system else []
    call = {"type": "function", "function": {"name": "get_replica_count", "arguments": {"model": "m"}}}
    messages += [
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2"},
    ]
    tools = f"List of tools: <|tool_list_start|>[{json.dumps(REPLICA_TOOL)}]<|tool_list_end|>"
    assert render(TEXT_MODEL, messages, tools=[REPLICA_TOOL], add_generation_prompt=True) == (
        f"<|startoftext|><|im_start|>system\n{system + chr(10) if system else ''}{tools}<|im_end|>\n"
        "<|im_start|>user\nHow many?<|im_end|>\n"
        '<|im_start|>assistant\n<|tool_call_start|>[get_replica_count(model="m")]<|tool_call_end|><|im_end|>\n'
        "<|im_start|>tool\n<|tool_response_start|>2<|tool_response_end|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_importing_the_package_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, tools.demo, tools.demo.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=CHECKPOINTS.parents[1]).returncode == 0
