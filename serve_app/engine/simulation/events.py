"""Answers of /v1/responses and /v1/messages: one output, streamed as events that have names."""

from __future__ import annotations

from typing import Any

from serve_app.engine.simulation.render import created, new_id, sse_event, text, token
from serve_app.engine.simulation.requests import Ask


class Responses:
    """/v1/responses: one message, its text in deltas."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.id, self.item = f"resp_{new_id()}", f"msg_{new_id()}"
        self.created = created()
        self._sequence = 0

    def opening(self) -> bytes:
        item: dict[str, Any] = self._item("in_progress", []) | {"content": []}
        part = {"type": "output_text", "text": "", "annotations": []}
        return (
            self._event("response.created", response=self._response("in_progress", []))
            + self._event("response.in_progress", response=self._response("in_progress", []))
            + self._event("response.output_item.added", output_index=0, item=item)
            + self._event("response.content_part.added", **self._place, part=part)
        )

    def token(self, choice: int, index: int) -> bytes:
        delta = token(index).decode()
        return self._event("response.output_text.delta", **self._place, delta=delta, logprobs=[])

    last = token

    def closing(self, lengths: list[int]) -> bytes:
        item = self._item("completed", lengths)
        part = item["content"][0]
        whole = self.whole(lengths)
        return (
            self._event("response.output_text.done", **self._place, text=part["text"], logprobs=[])
            + self._event("response.content_part.done", **self._place, part=part)
            + self._event("response.output_item.done", output_index=0, item=item)
            + self._event(f"response.{whole['status']}", response=whole)
        )

    def whole(self, lengths: list[int]) -> dict[str, Any]:
        return self._response("completed" if self.ask.finish_reason == "stop" else "incomplete", lengths)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.item, "output_index": 0, "content_index": 0}

    def _item(self, status: str, lengths: list[int]) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {"type": "output_text", "text": text(sum(lengths)), "annotations": [], "logprobs": None}
        ]
        return {
            "id": self.item,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _response(self, status: str, lengths: list[int]) -> dict[str, Any]:
        prompt, output = self.ask.prompt_tokens, sum(lengths)
        usage = {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + output,
        }
        return {
            "id": self.id,
            "created_at": self.created,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "metadata": None,
            "model": self.ask.model,
            "object": "response",
            "output": [self._item("completed", lengths)] if lengths else [],
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "max_output_tokens": self.ask.output_tokens,
            "status": status,
            "truncation": "disabled",
            "usage": usage if lengths else None,
        }

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return sse_event(data)


class Messages:
    """/v1/messages, Anthropic's shape."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.id = f"msg_{new_id()}"
        self._stop = "end_turn" if ask.finish_reason == "stop" else "max_tokens"
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "@"}}
        self._head, self._tail = sse_event(delta).rsplit(b"@", 1)

    def opening(self) -> bytes:
        block = {"type": "text", "text": ""}
        return sse_event({"type": "message_start", "message": self._message([], None, 0)}) + sse_event(
            {"type": "content_block_start", "index": 0, "content_block": block}
        )

    def token(self, choice: int, index: int) -> bytes:
        return self._head + token(index) + self._tail

    last = token

    def closing(self, lengths: list[int]) -> bytes:
        delta = {"stop_reason": self._stop, "stop_sequence": None}
        usage = {"input_tokens": self.ask.prompt_tokens, "output_tokens": sum(lengths)}
        return (
            sse_event({"type": "content_block_stop", "index": 0})
            + sse_event({"type": "message_delta", "delta": delta, "usage": usage})
            + sse_event({"type": "message_stop"})
        )

    def whole(self, lengths: list[int]) -> dict[str, Any]:
        output = sum(lengths)
        return self._message([{"type": "text", "text": text(output)}], self._stop, output)

    def _message(self, content: list[dict[str, Any]], stop: str | None, output: int) -> dict[str, Any]:
        usage = {"input_tokens": self.ask.prompt_tokens, "output_tokens": output}
        head = {"id": self.id, "type": "message", "role": "assistant", "content": content}
        return {**head, "model": self.ask.model, "stop_reason": stop, "stop_sequence": None, "usage": usage}
