"""Runs answers on worker threads, one for each slot of the engine, and keeps a queue with a limit before them."""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from pytrimode.answers.completion import Step
from pytrimode.engine_loop import Cancellation
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.server.errors import ApiError, from_exception
from pytrimode.server.generation import Generation, Piece
from pytrimode.server.metrics import Metrics
from pytrimode.server.threads import deep_pool

_log = logging.getLogger(__name__)

FIRST_READ_SECONDS = 0.005
"""The next pass, which may take all cores, waits so long for the first token to go out."""


@dataclass(frozen=True)
class Run:
    """An answer that can be made: a step generator that was not started yet, and what it was made from."""

    steps: Generator[Step, None, None]
    options: GenerationOptions
    n_prompt: int
    """Tokens of the prompt."""
    cancel: Cancellation
    """What ends the steps while they wait."""


@dataclass
class Slot:
    """What a worker does."""

    id: int
    task: int = -1
    """Number of its current or last answer."""
    run: Run | None = None
    """None: idle."""
    n_decoded: int = 0


class Runner:
    """`submit` and the other methods are for the event loop; the engine runs in the workers."""

    def __init__(self, n_slots: int, max_queue: int, metrics: Metrics) -> None:
        self.slots = [Slot(i) for i in range(n_slots)]
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in self.slots:
            self._free.put(slot)
        self._pool = deep_pool(n_slots, "slot")
        self._limit = n_slots + max_queue
        self._metrics = metrics
        self._lock = threading.Lock()
        self._admitted = 0
        self._tasks = 0
        self._seconds = 1.0
        self._generations: dict[Generation, list[Future[None]]] = {}
        self._stopping = False

    @property
    def processing(self) -> int:
        """Answers being made."""
        return sum(slot.run is not None for slot in self.slots)

    @property
    def waiting(self) -> int:
        """Answers that wait for a slot."""
        return max(0, self._admitted - self.processing)

    def submit(self, runs: Sequence[Run], timeout: float) -> Generation:
        """Queue the answers to one request.

        Raises ApiError 429 when they do not fit the queue, 503 when the server is stopping.
        """
        if self._stopping:
            raise ApiError(503, "the server is stopping", headers={"Connection": "close"})
        with self._lock:
            if self._admitted + len(runs) > self._limit:
                raise self._busy(len(runs))
            self._admitted += len(runs)
        generation = Generation([run.cancel for run in runs])
        generation.abort_after(timeout, ApiError(504, f"the answer was not finished within {timeout:g} s"))
        futures = self._generations[generation] = []
        for index, run in enumerate(runs):
            self._tasks += 1
            futures.append(self._pool.submit(self._work, generation, index, run, self._tasks))
        return generation

    def release(self, generation: Generation) -> None:
        """End a request: its answers are cancelled if they still run or wait."""
        generation.close()
        for future in self._generations.pop(generation, []):
            if future.cancel():
                self._leave("cancelled")

    def refuse_new(self) -> None:
        """From now on `submit` raises."""
        self._stopping = True

    def end_all(self) -> None:
        """End every answer; its reader is told that the server stops."""
        for generation in self._generations:
            generation.abort(ApiError(503, "the server is stopping"))

    def close(self) -> None:
        """Cancel everything and wait for the workers, at most a forward pass each."""
        self._stopping = True
        for generation in list(self._generations):
            self.release(generation)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _busy(self, n: int) -> ApiError:
        if n > self._limit:
            return ApiError(400, f"{n} answers: this server takes at most {self._limit} at a time", param="n")
        self._metrics.refused()
        wait = math.ceil(self._seconds * max(1, self.waiting) / len(self.slots))
        return ApiError(
            429,
            f"the queue is full ({self._limit - len(self.slots)} answers wait): try again later",
            headers={"Retry-After": str(max(1, wait))},
        )

    def _leave(self, outcome: str) -> None:
        with self._lock:
            self._admitted -= 1
        self._metrics.ended(outcome)

    def _work(self, generation: Generation, index: int, run: Run, task: int) -> None:
        """Make one answer, in a worker thread."""
        if generation.closed:
            return self._leave("cancelled")
        slot = self._free.get()
        slot.task, slot.n_decoded, slot.run = task, 0, run
        started = time.monotonic()
        outcome, last, failure = "cancelled", None, None
        try:
            with contextlib.closing(run.steps):
                for step in run.steps:
                    is_first = not slot.n_decoded and bool(step.tokens)
                    if is_first:
                        self._metrics.first_token(time.monotonic() - generation.created)
                    slot.n_decoded += len(step.tokens)
                    piece = Piece(index, step)
                    if step.ending:
                        self._metrics.answered(step.ending.measured)
                        outcome, last = "finished", piece
                    elif not generation.put(piece):
                        break
                    elif is_first:
                        generation.let_read(FIRST_READ_SECONDS)
        except Exception as error:
            if not generation.closed:  # or else nobody waits, and it may be what a cancelled run raises
                outcome, failure = "failed", from_exception(error)
                if failure.status >= 500:
                    _log.error("an answer failed", exc_info=error)
        self._seconds += (time.monotonic() - started - self._seconds) / 8
        slot.run = None
        self._free.put(slot)
        self._leave(outcome)
        # A client that has its answer may ask again at once: its place must be free by then.
        if last:
            generation.put_last(last)
        elif failure:
            generation.fail(failure)
        return None
