"""How answers of `/api/chat` and `/api/generate` are written."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from pytrimode.answers.results import Measured
from pytrimode.server.apis.blocks import CALL, REASONING, Block, BlockEvent, Blocks, blocks_of
from pytrimode.server.errors import ApiError
from pytrimode.server.form import Form, encode, image_tokens
from pytrimode.server.prompts import Object

NDJSON = "application/x-ndjson"


class OllamaForm(Form):
    """An object, or a line for each piece; the last one has what it cost. `chat`: pieces are messages."""

    media_type = NDJSON

    def __init__(self, model: str, *, chat: bool) -> None:
        self._model = model
        self._chat = chat
        self._begun = time.monotonic_ns()
        self._blocks = Blocks()
        self._ending: Object = {}

    def whole(self, results: Sequence[Object], measured: Measured) -> Object:
        """Return the answer in one piece."""
        (result,) = results
        said: Object = {"content": ""}
        for block in blocks_of(_message_of(result)):
            _add(said, block)
        return self._piece(said, _logprobs(result), self._cost(_ending_of(result), measured))

    def waiting(self) -> bytes:
        """Return a piece that adds nothing."""
        return _line(self._piece({"content": ""}, {}))

    def chunk(self, chunk: Object) -> bytes:
        """Return what was added. A call comes when it is complete: its arguments are an object."""
        if ending := _ending_of(chunk):
            self._ending = ending
        said: Object = {}
        for event in self._blocks.feed(_message_of(chunk)):
            _happened(said, event)
        more = _logprobs(chunk)
        return _line(self._piece({"content": "", **said}, more)) if said or more else b""

    def closing(self, measured: Measured) -> bytes:
        """Return the last piece."""
        said: Object = {"content": ""}
        for event in self._blocks.end():
            _happened(said, event)
        return _line(self._piece(said, {}, self._cost(self._ending, measured)))

    def failed(self, error: ApiError) -> bytes:
        """Return the error."""
        return _line({"error": error.body["error"]["message"]})

    def nothing(self, reason: str) -> Object:
        """Return the answer to a request without a prompt."""
        return self._piece({"content": ""}, {}, {"done": True, "done_reason": reason})

    def _piece(self, said: Object, more: Object, cost: Object | None = None) -> Object:
        now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
        head = {"model": self._model, "created_at": now}
        if self._chat:
            return {**head, "message": {"role": "assistant", **said}, **more, **(cost or {"done": False})}
        written = {"response": said.pop("content", ""), **said}
        return {**head, **written, **more, **(cost or {"done": False})}

    def _cost(self, ending: Object, measured: Measured) -> Object:
        """Return the counts; times in nanoseconds. The model was loaded before."""
        timings, usage = measured["timings"], measured["usage"]
        return {
            "done": True,
            "done_reason": "length" if ending["type"] == "length" else "stop",
            "total_duration": time.monotonic_ns() - self._begun,
            "load_duration": 0,
            "prompt_eval_count": usage["prompt_tokens"],
            "prompt_eval_duration": round(timings["prompt_ms"] * 1e6),
            "eval_count": usage["completion_tokens"],
            "eval_duration": round(timings["predicted_ms"] * 1e6),
            **image_tokens(measured),
        }


def _line(data: Object) -> bytes:
    return f"{encode(data)}\n".encode()


def _message_of(result: Object) -> Object:
    """Return the message of a chat completion, the delta of a chunk, or a completion as if it were one."""
    if "choices" not in result:
        return {"content": result["content"]}
    choice: Object = result["choices"][0]
    return choice.get("message") or choice.get("delta") or {}


def _ending_of(result: Object) -> Object:
    found: Object = result if "choices" not in result else result["choices"][0]
    return found.get("finish_details") or {}


def _logprobs(result: Object) -> Object:
    if "choices" not in result:
        entries: Any = result.get("completion_probabilities")
    else:
        entries = (result["choices"][0]["logprobs"] or {}).get("content")
    return {"logprobs": entries} if entries else {}


def _happened(said: Object, event: BlockEvent) -> None:
    """Add what happened to a block: text as it comes, a call at its end."""
    if event.block.kind == CALL:
        if event.event == "end":
            _add(said, event.block)
    elif event.event == "add":
        _say(said, event.block.kind, event.text)


def _add(said: Object, block: Block) -> None:
    if block.kind == CALL:
        calls = said.setdefault("tool_calls", [])
        function = {"index": len(calls), "name": block.name, "arguments": json.loads(block.text)}
        calls.append({"id": block.id, "function": function})
    else:
        _say(said, block.kind, block.text)


def _say(said: Object, kind: str, text: str) -> None:
    name = "thinking" if kind == REASONING else "content"
    said[name] = said.get(name, "") + text
