"""The answers to one HTTP request, between the worker threads that make them and the event loop that sends them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytrimode.answers.completion import Step
from pytrimode.server.errors import ApiError

CAPACITY = 64
"""Steps that may wait for the reader. A worker that is further ahead waits: a slow reader slows its own answer only."""


@dataclass(frozen=True)
class Piece:
    """A step of one of the answers."""

    index: int
    step: Step


class Generation:
    """A bounded queue of steps, written by worker threads and read in the event loop that made it.

    Methods are for the event loop unless they say otherwise.
    """

    def __init__(self, cancels: Sequence[Callable[[], None]], capacity: int = CAPACITY) -> None:
        """Prepare the queue. `cancels` end what makes the answers, one each."""
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._pieces: deque[Piece] = deque()
        self._capacity = capacity
        self._room = threading.Event()
        self._cancels = cancels
        self._unfinished = len(cancels)
        self._error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.created = time.monotonic()

    @property
    def closed(self) -> bool:
        """Nobody waits for the answers any more. Any thread may ask."""
        return self._closed

    def put(self, piece: Piece) -> bool:
        """Hand over a step, waiting for room; False when nobody wants more. For worker threads."""
        # A semaphore would cost each token more than the queue does. The reader sets the event after it has taken what
        # there was: either that is seen here, or the wait ends.
        while len(self._pieces) >= self._capacity and not self._closed:
            self._room.clear()
            if len(self._pieces) >= self._capacity and not self._closed:
                self._room.wait()
        if self._closed:
            return False
        self._pieces.append(piece)
        self._call(self._wake.set)
        return True

    def let_read(self, seconds: float) -> None:
        """Wait until the reader has taken what there is, at most so long. For worker threads."""
        self._room.clear()
        if self._pieces and not self._closed:
            self._room.wait(seconds)

    def put_last(self, piece: Piece) -> None:
        """Hand over the last step of an answer, without waiting for room. For worker threads."""
        self._pieces.append(piece)
        self._call(self._wake.set)

    def fail(self, error: ApiError) -> None:
        """Give the reader the exception of an answer that cannot be made. For worker threads."""
        self._call(self.abort, error)

    def abort(self, error: Exception) -> None:
        """End all answers; the reader gets what was made, then the exception."""
        if not self._closed:
            self._error = error
            self.close()
            self._wake.set()

    def abort_after(self, seconds: float, error: ApiError) -> None:
        """`abort` if the answers are not finished by then."""
        self._timer = self._loop.call_later(seconds, self.abort, error)

    def close(self) -> None:
        """Cancel what still runs or waits: a running answer ends with its current forward pass."""
        if self._closed:
            return
        self._closed = True
        if self._timer:
            self._timer.cancel()
        self._room.set()
        if self._unfinished:
            for cancel in self._cancels:
                cancel()

    async def pieces(self) -> list[Piece]:
        """All steps that wait, at least one; empty when every answer is finished. Raises what `abort` was given."""
        while not self._pieces:
            if self._error:
                raise self._error
            if not self._unfinished:
                self.close()
                return []
            # Whoever adds a piece sets the event afterwards, in this loop: none is missed.
            self._wake.clear()
            await self._wake.wait()
        taken = []
        while self._pieces:
            taken.append(self._pieces.popleft())
        self._unfinished -= sum(1 for piece in taken if piece.step.ending)
        self._room.set()
        return taken

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        # A loop that is closed has no reader.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)
