"""A server's stream of events as the parts of an answer. The server may be anybody's: what is not as it should be is an
error, or left out where an answer can do without it."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import Any, cast

import httpx

from pytrimode.answers.results import BlockToken, FinishDetails, Timings
from pytrimode.cli.conversation import Part

_FIGURES = (
    "prompt_n", "prompt_ms", "predicted_n", "predicted_ms", "predicted_per_second", "tokens_per_forward",
    "forward_passes", "draft_n", "draft_n_accepted", "acceptance_length",
)  # fmt: skip
"""Of the timings, what the chat shows."""


def parts_of(response: httpx.Response) -> Generator[Part, None, None]:
    """Yield the parts. Raises ValueError for an error among the events, what is no event, and an early end."""
    try:
        for line in response.iter_lines():
            if line.startswith(":"):  # a comment: the answer waits
                continue
            data = line.removeprefix("data: ").strip()
            if data == "[DONE]":
                return
            if data:
                yield _part(data)
    except httpx.HTTPError:
        pass
    raise ValueError("the connection ended before the answer did")


def _part(data: str) -> Part:
    try:
        chunk = json.loads(data)
        if "error" in chunk:
            error = str(chunk["error"]["message"])
        else:
            choice = chunk["choices"][0]
            text = choice["delta"].get("content") or ""
            if not isinstance(text, str):
                raise TypeError
            live = chunk["live"] if isinstance(chunk.get("live"), dict) else {}
            draft, accepted = _draft(live)
            finish, timings = _finish(choice.get("finish_details")), _timings(chunk.get("timings"))
            return Part(text, _block(live.get("block")), draft, accepted, finish, timings)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        error = f"the server sent what is no part of an answer: {data[:60]!a}"
    raise ValueError(error or "the server told of an error without a text")


def _block(given: Any) -> Sequence[BlockToken | None]:
    def fits(token: Any) -> bool:
        return token is None or (
            isinstance(token, dict) and isinstance(token.get("text"), str) and _is_number(token.get("p"))
        )

    return given if isinstance(given, list) and all(fits(token) for token in given) else ()


def _draft(live: dict[str, Any]) -> tuple[Sequence[str], int | None]:
    draft, accepted = live.get("draft"), live.get("accepted")
    texts = draft if isinstance(draft, list) and all(isinstance(text, str) for text in draft) else ()
    return texts, accepted if isinstance(accepted, int) and accepted >= 0 else None


def _finish(given: Any) -> FinishDetails | None:
    if not isinstance(given, dict) or not isinstance(given.get("type"), str):
        return None
    if given["type"] == "loop" and not _is_number(given.get("period")):
        return None
    return cast(FinishDetails, given)


def _timings(given: Any) -> Timings | None:
    is_whole = isinstance(given, dict) and all(_is_number(given.get(name)) for name in _FIGURES)
    return cast(Timings, given) if is_whole else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
