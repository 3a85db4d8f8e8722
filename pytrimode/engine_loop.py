"""Steps the engine for whoever waits for a token, from any thread, and hands each request its own events."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from pytrimode.generation_options import ResolvedOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytrimode._native import Engine, Event, Stats


class EngineLoop:
    """One engine behind one lock.

    A step advances every active request, whoever asked for it: what belongs to other requests waits in their queues.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine: Engine | None = engine
        self._lock = threading.Lock()
        self._inbox: deque[Event] = deque()
        self._queues: dict[int, deque[Event]] = {}

    def close(self) -> None:
        """Let go of the engine; requests that still run end with RuntimeError."""
        with self._lock:
            self._engine = None
            self._queues.clear()

    def run(self, tokens: Sequence[int], options: ResolvedOptions) -> Generator[tuple[Event, Stats], None, None]:
        """The events of one request until it has its finish reason, each with the counters so far.

        Leaving the iterator early (`close()`, an exception, KeyboardInterrupt) cancels the request.
        """
        request = self._submit(tokens, options)
        try:
            while True:
                event = self._next_event(request)
                if event.finish_reason == "failed":
                    raise RuntimeError(event.error)
                yield event, self._stats(request)
                if event.finish_reason:
                    return
        finally:
            self._drop(request)

    def logits(self, tokens: Sequence[int], block_start: int, lora: bool) -> NDArray[np.float32]:
        """See `TriMode.logits`."""
        with self._lock:
            return self._open().logits(tokens, block_start, lora)

    def save_state(self, tokens: Sequence[int]) -> tuple[list[int], NDArray[np.uint8], NDArray[np.uint8]]:
        """See `Engine.save_state`."""
        with self._lock:
            return self._open().save_state(tokens)

    def load_state(self, tokens: Sequence[int], k: NDArray[np.uint8], v: NDArray[np.uint8]) -> None:
        """See `Engine.load_state`."""
        with self._lock:
            self._open().load_state(tokens, k, v)

    def _open(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("this TriMode is closed")
        return self._engine

    def _submit(self, tokens: Sequence[int], options: ResolvedOptions) -> int:
        with self._lock:
            request = self._open().submit(tokens, **options.engine)
            self._queues[request] = deque()
            return request

    def _stats(self, request: int) -> Stats:
        with self._lock:
            return self._open().stats(request)

    def _next_event(self, request: int) -> Event:
        while True:
            with self._lock:
                engine = self._open()
                queue = self._queues[request]
                if queue:
                    return queue.popleft()
                # One call into C from the step to the inbox: a KeyboardInterrupt that came up during the step is raised
                # after it, and cannot lose the events of other requests.
                self._inbox.extend(itertools.chain.from_iterable(itertools.starmap(engine.step, ((),))))
                while self._inbox:
                    event = self._inbox[0]
                    if event.request_id in self._queues:
                        self._queues[event.request_id].append(event)
                    self._inbox.popleft()

    def _drop(self, request: int) -> None:
        with self._lock:
            self._queues.pop(request, None)
            if self._engine is not None:
                self._engine.cancel(request)
                self._engine.release(request)
