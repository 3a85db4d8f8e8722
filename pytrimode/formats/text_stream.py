"""Token pieces to text: whole UTF-8 characters only, and nothing of a stop string or after it."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Feeds on the bytes of one token after another and gives out the text that is final.

    The text given out is the same however the bytes are cut into pieces. Bytes that cannot be UTF-8 become U+FFFD; an
    unfinished character waits for its other bytes, and only at the end counts as broken.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        if any(not s for s in stop):
            raise ValueError("a stop string must not be empty")
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._immune = 0  # characters held that no stop string may end with
        self.matched: str | None = None
        """The stop string that was completed; no further text will come."""

    @property
    def stopped(self) -> bool:
        """A stop string was completed."""
        return self.matched is not None

    def feed(self, piece: bytes, *, may_stop: bool = True) -> str:
        """Return the text that became final with this piece; "" while a character or a possible stop string is
        unfinished. Not `may_stop`: no stop string counts that is completed by this piece.
        """
        return "" if self.stopped else self._advance(self._decoder.decode(piece), may_stop)

    def finish(self) -> str:
        """Return the text still held back, once no more pieces come."""
        if self.stopped:
            return ""
        text = self._advance(self._decoder.decode(b"", final=True))
        if self.stopped:
            return text
        text, self._held = text + self._held, ""
        return text

    def _advance(self, text: str, may_stop: bool = True) -> str:
        self._held += text
        if not may_stop:
            self._immune = len(self._held)
        match = self._first_match()
        if match is not None:
            start, self.matched = match
            text, self._held = self._held[:start], ""
            return text
        keep = self._possible_start()
        text, self._held = self._held[:keep], self._held[keep:]
        self._immune = max(0, self._immune - keep)
        return text

    def _first_match(self) -> tuple[int, str] | None:
        """Start and text of the stop string that is completed first (the longest, if several end together)."""
        starts = ((s, self._held.find(s, max(0, self._immune - len(s) + 1))) for s in self._stop)
        found = [(start + len(s), start, s) for s, start in starts if start >= 0]
        return min(found)[1:] if found else None

    def _possible_start(self) -> int:
        """Where the longest tail begins that may still become a stop string."""
        longest = max((len(s) - 1 for s in self._stop), default=0)
        for start in range(max(0, len(self._held) - longest), len(self._held)):
            tail = self._held[start:]
            if any(s.startswith(tail) for s in self._stop):
                return start
        return len(self._held)
