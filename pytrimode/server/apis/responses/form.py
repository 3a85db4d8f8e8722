"""How answers of `/v1/responses` are written."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from pytrimode.answers.results import Measured
from pytrimode.server.apis.blocks import CALL, REASONING, Block, BlockEvent, Blocks, blocks_of
from pytrimode.server.apis.responses.schema import ResponsesRequest
from pytrimode.server.errors import ApiError
from pytrimode.server.form import Form, event, image_tokens
from pytrimode.server.prompts import Object

_PREFIXES = {REASONING: "rs", CALL: "fc"}


class ResponsesForm(Form):
    """A response, or its events, which are numbered: items begin, grow and end."""

    def __init__(self, model: str, body: ResponsesRequest) -> None:
        self._id = uuid.uuid4().hex
        self._head = {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "error": None,
            "incomplete_details": None,
            **_asked(body),
        }
        self._blocks = Blocks()
        self._ending: Object = {}
        self._n_events = 0

    def whole(self, results: Sequence[Object], measured: Measured) -> Object:
        """Return the response."""
        choice = results[0]["choices"][0]
        return self._response(choice, blocks_of(choice["message"]), measured)

    def opening(self) -> bytes:
        """Return the response without output."""
        begun = {**self._head, "status": "in_progress", "output": [], "usage": None}
        return self._event("response.created", response=begun) + self._event("response.in_progress", response=begun)

    def chunk(self, chunk: Object) -> bytes:
        """Return what happens to items."""
        choice = chunk["choices"][0]
        if choice["finish_reason"]:
            self._ending = choice
        return b"".join(map(self._happened, self._blocks.feed(choice["delta"])))

    def closing(self, measured: Measured) -> bytes:
        """Return the whole response."""
        last = b"".join(map(self._happened, self._blocks.end()))
        response = self._response(self._ending, self._blocks.done, measured)
        return last + self._event(f"response.{response['status']}", response=response)

    def failed(self, error: ApiError) -> bytes:
        """Return the error, alone and in the response."""
        found = error.body["error"]
        told = {"code": found["type"], "message": found["message"]}
        items = [self._item(block, "completed") for block in self._blocks.done]
        response = {**self._head, "status": "failed", "output": items, "usage": None, "error": told}
        return self._event("error", **told, param=found["param"]) + self._event("response.failed", response=response)

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._n_events, **fields}
        self._n_events += 1
        return event(data, kind)

    def _response(self, choice: Object, blocks: Sequence[Block], measured: Measured) -> Object:
        cut = choice["finish_reason"] == "length"
        items = [self._item(block, "completed") for block in blocks]
        if items and cut:
            items[-1]["status"] = "incomplete"
        return {
            **self._head,
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": items,
            "usage": _usage(measured),
            "timings": measured["timings"],
        }

    def _happened(self, what: BlockEvent) -> bytes:
        block = what.block
        item = self._item(block, "in_progress" if what.event != "end" else "completed")
        at = {"output_index": block.index}
        name = "function_call_arguments" if block.kind == CALL else _part(block)["type"]
        inner = (
            {"item_id": item["id"], **at} if block.kind == CALL else {"item_id": item["id"], **at, "content_index": 0}
        )
        more: Object = {"logprobs": []} if name == "output_text" else {}
        if what.event == "add":
            return self._event(f"response.{name}.delta", **inner, delta=what.text, **more)
        if what.event == "begin":
            added = self._event("response.output_item.added", **at, item=_empty(item))
            part = self._event("response.content_part.added", **inner, part=_part(block)) if block.kind != CALL else b""
            return added + part
        if block.kind == CALL:
            done = self._event(f"response.{name}.done", **inner, arguments=block.text, name=block.name)
        else:
            done = self._event(f"response.{name}.done", **inner, text=block.text, **more)
            done += self._event("response.content_part.done", **inner, part=_part(block))
        return done + self._event("response.output_item.done", **at, item=item)

    def _item(self, block: Block, status: str) -> Object:
        head: Object = {"id": f"{_PREFIXES.get(block.kind, 'msg')}_{self._id}_{block.index}", "status": status}
        if block.kind == CALL:
            called = {"call_id": block.id, "name": block.name, "arguments": block.text}
            return {"type": "function_call", **head, **called}
        if block.kind == REASONING:
            return {"type": "reasoning", **head, "summary": [], "content": [_part(block)], "encrypted_content": None}
        return {"type": "message", **head, "role": "assistant", "content": [_part(block)]}


def _part(block: Block) -> Object:
    if block.kind == REASONING:
        return {"type": "reasoning_text", "text": block.text}
    return {"type": "output_text", "text": block.text, "annotations": [], "logprobs": []}


def _empty(item: Object) -> Object:
    nothing: Object = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
    return item | nothing


def _asked(body: ResponsesRequest) -> Object:
    """Return what a response repeats of its request."""
    options = body.model_extra or {}
    return {
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": body.reasoning or {"effort": None, "summary": None},
        "store": False,
        "temperature": options.get("temperature"),
        "text": body.text or {"format": {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "top_p": options.get("top_p"),
        "truncation": "disabled",
    }


def _usage(measured: Measured) -> Object:
    """Return the counts. Writing to the cache costs nothing of its own."""
    usage = measured["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    details = {"cached_tokens": cached, "cache_write_tokens": 0, **image_tokens(measured)}
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": details,
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": usage.get("completion_tokens_details", {"reasoning_tokens": 0}),
        "total_tokens": usage["total_tokens"],
    }
