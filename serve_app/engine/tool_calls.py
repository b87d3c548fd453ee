"""Tool calls that were cut off, malformed or not wanted: answered as what they are.

vLLM 0.32 loses the text of a call that `max_tokens` cut off, or shows it with its sentinels, and calls an answer that
was cut off inside a call complete. Here a call of which the name is known is a call, with as much of its arguments as
there is, and the finish reason is `length`; what is no call is text, without sentinels; streamed and not.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import (
    DeltaMessage,
    ExtractedToolCallInformation,
    FunctionCall,
    ToolCall,
)
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.parser.abstract_parser import DelegatingParser, StreamState
from vllm.tool_parsers import ToolParserManager
from vllm.tool_parsers.lfm2_tool_parser import TOOL_CALL_END, TOOL_CALL_START, Lfm2ToolParser
from vllm.tool_parsers.streaming import extract_required_tool_call_streaming

BANNED = -100.0
"""Logit bias of a token that must not come."""


class Lfm2ToolCalls(Lfm2ToolParser):
    """vLLM's parser of LFM2's Pythonic calls, for calls that are not whole as well."""

    def adjust_request(self, request: Any) -> Any:
        """With tools that must not be called (`tool_choice: "none"`) the token that begins a call is ruled out."""
        if request.tools and request.tool_choice == "none":
            request.logit_bias = {**(request.logit_bias or {}), str(self.tool_call_start_token_id): BANNED}
            return request
        return super().adjust_request(request)

    def extract_tool_calls(self, model_output: str, request: Any) -> ExtractedToolCallInformation:
        found = super().extract_tool_calls(model_output, request)
        if not found.tools_called and TOOL_CALL_START in model_output:
            started = type(self)(self.model_tokenizer, self.tools)
            delta = started.extract_tool_calls_streaming("", model_output, model_output, [], [], [], request)
            if calls := _calls(delta):
                text = model_output.partition(TOOL_CALL_START)[0].strip()
                found = ExtractedToolCallInformation(tools_called=True, tool_calls=calls, content=text or None)
        return found

    def extract_tool_calls_streaming(
        self, previous_text: str, current_text: str, delta_text: str, *token_ids_and_request: Any
    ) -> DeltaMessage | None:
        delta: DeltaMessage | None = super().extract_tool_calls_streaming(
            previous_text, current_text, delta_text, *token_ids_and_request
        )
        if delta is not None and delta.content:
            delta.content = _without_sentinels(delta.content)
        return delta

    def unsent(self, text: str) -> str:
        """At the end of a stream, what began as a call and never became one."""
        if self.prev_tool_call_arr or TOOL_CALL_START not in text:
            return ""
        return _without_sentinels(text.partition(TOOL_CALL_START)[2].partition(TOOL_CALL_END)[0])


def install() -> None:
    """Serve tool calls so in this process, LFM2's by the name `lfm2`."""
    ToolParserManager.register_module("lfm2", module=Lfm2ToolCalls)
    # Asked even for `tool_choice: "none"`, which the parser must know of.
    DelegatingParser.always_adjust_request = True
    DelegatingParser._extract_tool_calls = _nothing_lost(DelegatingParser._extract_tool_calls)
    DelegatingParser.finalize_generation = _nothing_lost_streamed(DelegatingParser.finalize_generation)
    OpenAIServingChat.chat_completion_full_generator = _cut_off_said(OpenAIServingChat.chat_completion_full_generator)


def _nothing_lost(extract: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(extract)
    def extracted(
        parser: DelegatingParser, content: str | None, request: Any, enable_auto_tools: bool = False
    ) -> tuple[list[FunctionCall] | None, str | None]:
        calls, text = extract(parser, content, request, enable_auto_tools)
        if text and isinstance(parser.tool_parser, Lfm2ToolCalls):
            text = _without_sentinels(text) or None
        if request.tool_choice != "required" or calls or text or not (content or "").strip():
            return calls, text
        delta, _ = extract_required_tool_call_streaming(
            previous_text="", current_text=content, tool_call_idx=None, tool_call_id_type="random"
        )
        begun = [call.function for call in _calls(delta)]
        return begun, None if begun else content

    return extracted


def _nothing_lost_streamed(finalize: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(finalize)
    def finalized(
        parser: DelegatingParser, delta: DeltaMessage | None, request: Any, state: StreamState
    ) -> DeltaMessage | None:
        delta = finalize(parser, delta, request, state)
        if parser._in_tool_call_phase(state) and (lost := _lost(parser, request, state)):
            delta = delta or DeltaMessage()
            delta.content = (delta.content or "") + lost
        return delta

    return finalized


def _lost(parser: DelegatingParser, request: Any, state: StreamState) -> str:
    """Of a stream that has ended, the text that was taken for the beginning of a call and not sent."""
    tool_parser = parser.tool_parser
    if request.tool_choice == "required" and tool_parser.supports_required_and_named:
        return "" if state.function_name_returned else state.previous_text
    return tool_parser.unsent(state.previous_text) if isinstance(tool_parser, Lfm2ToolCalls) else ""


def _cut_off_said(full: Callable[..., Any]) -> Callable[..., Any]:
    """An answer that ran into `max_tokens` ends with `length`, calls or not, as it does streamed."""

    @functools.wraps(full)
    async def answered(serving: Any, request: Any, results: AsyncIterator[Any], *args: Any, **kwargs: Any) -> Any:
        cut_off: set[int] = set()

        async def watched() -> AsyncIterator[Any]:
            async for result in results:
                cut_off.update(output.index for output in result.outputs if output.finish_reason == "length")
                yield result

        answer = await full(serving, request, watched(), *args, **kwargs)
        for choice in getattr(answer, "choices", ()):
            if choice.index in cut_off:
                choice.finish_reason = "length"
        return answer

    return answered


def _calls(delta: DeltaMessage | None) -> Sequence[ToolCall]:
    functions = [call.function for call in (delta.tool_calls if delta else ()) if call.function and call.function.name]
    return [ToolCall(function=FunctionCall(name=one.name, arguments=one.arguments or "")) for one in functions]


def _without_sentinels(text: str) -> str:
    return text.replace(TOOL_CALL_START, "").replace(TOOL_CALL_END, "")
