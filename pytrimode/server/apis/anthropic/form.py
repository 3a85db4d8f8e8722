"""How answers of `/v1/messages` are written."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from pytrimode.answers.results import Measured
from pytrimode.server.apis.blocks import CALL, REASONING, Block, BlockEvent, Blocks, blocks_of
from pytrimode.server.error_shapes import anthropic_error
from pytrimode.server.errors import ApiError
from pytrimode.server.form import Form, event, image_tokens
from pytrimode.server.prompts import Object


class MessagesForm(Form):
    """A message, or its events: each block begins, grows and ends."""

    def __init__(self, model: str, n_prompt: int) -> None:
        """`n_prompt`: tokens of the prompt, for the first event."""
        self._head = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": model}
        self._n_prompt = n_prompt
        self._blocks = Blocks()
        self._ending: Object = {}

    def whole(self, results: Sequence[Object], measured: Measured) -> Object:
        """Return the message. Arguments of calls are objects in it."""
        choice = results[0]["choices"][0]
        content = [_begun(block) | _written(block) for block in blocks_of(choice["message"])]
        return {
            **self._head,
            "content": content,
            **_stop(choice),
            "usage": _usage(measured),
            "timings": measured["timings"],
        }

    def opening(self) -> bytes:
        """Return the message without content."""
        usage = {"input_tokens": self._n_prompt, "output_tokens": 0}
        nothing: Object = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return _event({"type": "message_start", "message": self._head | nothing})

    def waiting(self) -> bytes:
        """Return a ping."""
        return _event({"type": "ping"})

    def chunk(self, chunk: Object) -> bytes:
        """Return what happens to blocks."""
        choice = chunk["choices"][0]
        if choice["finish_reason"]:
            self._ending = choice
        return b"".join(map(_happened, self._blocks.feed(choice["delta"])))

    def closing(self, measured: Measured) -> bytes:
        """Return why it ended, and what it cost."""
        ended = {"type": "message_delta", "delta": _stop(self._ending), "usage": _usage(measured)}
        last = b"".join(map(_happened, self._blocks.end()))
        return last + _event(ended | {"timings": measured["timings"]}) + _event({"type": "message_stop"})

    def failed(self, error: ApiError) -> bytes:
        """Return the error."""
        return event(anthropic_error(error.body), "error")


def _event(data: Object) -> bytes:
    return event(data, data["type"])


def _happened(what: BlockEvent) -> bytes:
    index = what.block.index
    if what.event == "begin":
        return _event({"type": "content_block_start", "index": index, "content_block": _begun(what.block)})
    if what.event == "end":
        return _event({"type": "content_block_stop", "index": index})
    kind, field = {REASONING: ("thinking_delta", "thinking"), CALL: ("input_json_delta", "partial_json")}.get(
        what.block.kind, ("text_delta", "text")
    )
    return _event({"type": "content_block_delta", "index": index, "delta": {"type": kind, field: what.text}})


def _begun(block: Block) -> Object:
    """Return a block without what it says."""
    if block.kind == REASONING:
        return {"type": "thinking", "thinking": "", "signature": ""}
    if block.kind == CALL:
        return {"type": "tool_use", "id": block.id, "name": block.name, "input": {}}
    return {"type": "text", "text": ""}


def _written(block: Block) -> Object:
    if block.kind == CALL:
        return {"input": json.loads(block.text)}
    return {"thinking" if block.kind == REASONING else "text": block.text}


def _stop(choice: Object) -> Object:
    details: dict[str, Any] = choice["finish_details"]
    if choice["finish_reason"] == "tool_calls":
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if choice["finish_reason"] == "length":
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    found = details.get("stop")
    return {"stop_reason": "end_turn" if found is None else "stop_sequence", "stop_sequence": found}


def _usage(measured: Measured) -> Object:
    """Return the counts. What was found in the cache is no part of `input_tokens`; `image_tokens` are part of both."""
    usage = measured["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return {
        "input_tokens": usage["prompt_tokens"] - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage["completion_tokens"],
        **image_tokens(measured),
    }
