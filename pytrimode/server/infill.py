"""Texts around a gap, cut to what a pass and the context have room for: editors send as much as they like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pytrimode.trimode import TriMode


class Around(NamedTuple):
    """What stands before and behind a gap."""

    before: str
    after: str


def fitted(
    model: TriMode, around: Around, n_middle: int, *, n_most: int, longest: int, extras: Sequence[str] = ()
) -> Around:
    """Return what is next to the gap, with the last of `extras` in front as far as there is room.

    `n_middle`: tokens of the gap; `n_most`: those of the context; `longest`: most bytes of a token. Texts are cut
    at the end of a line where there is one. A gap that is too long itself is left for the engine to refuse.
    """
    room = min(model.n_batch - n_middle - 1, (n_most - n_middle) // 2)
    if room <= 0:
        return around
    after, n_after = _cut(model, around.after, room, longest, from_start=True)
    room = n_most - n_middle - n_after - 2  # one token that begins a text, one that is made
    before, n_before = _cut(model, around.before, room, longest, from_start=False)
    room -= n_before
    kept: list[str] = []
    for text in reversed(extras):
        if len(text.encode()) // longest >= room or (n := len(_tokens(model, text))) >= room:
            break
        room -= n
        kept.insert(0, text)
    return Around("".join(kept) + before, after)


def _cut(model: TriMode, text: str, room: int, longest: int, *, from_start: bool) -> tuple[str, int]:
    """Return the beginning or the end of a text that has at most `room` tokens, and how many it has."""
    text = text[: room * longest] if from_start else text[-room * longest :]
    tokens = _tokens(model, text)
    n = room
    while len(tokens) > room:
        kept = model.detokenize(tokens[:n] if from_start else tokens[-n:], special=True).decode("utf-8", "ignore")
        head, line, tail = kept.rpartition("\n") if from_start else kept.partition("\n")
        text = (head + line or kept) if from_start else (tail or kept)
        tokens = _tokens(model, text)  # other ones, perhaps, than within the whole
        n -= 1
    return text, len(tokens)


def _tokens(model: TriMode, text: str) -> list[int]:
    return model.tokenize(text, add_bos=False, special=True)
