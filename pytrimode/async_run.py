"""Jobs that run side by side for one task of asyncio, with a bounded number of events between it and the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from pytrimode.answers.job import AnyJob
from pytrimode.answers.step import Step
from pytrimode.engine_loop import Cancellation, Deliver, EngineLoop

if TYPE_CHECKING:
    from pytrimode._native import Event

CAPACITY = 64
"""Events that may wait for the reader: a request that is further ahead pauses. A slow reader slows its own request."""


class Piece(NamedTuple):
    """A step of one of the jobs, by its number."""

    job: int
    step: Step


class AsyncRun:
    """The steps of some jobs as they come.

        async with model.run_async(jobs) as run:
            while pieces := await run.pieces():
                ...

    Leaving the block cancels what still runs. Methods are for the event loop in which it was made.

    Raises QueueFullError where there is no room for all of them.
    """

    def __init__(self, engine: EngineLoop, jobs: Sequence[AnyJob]) -> None:
        self._engine = engine
        self._jobs = jobs
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._asleep = False
        self._events: deque[tuple[int, Event | BaseException]] = deque()
        self._requests: list[int] = []
        self._held: deque[int] = deque()
        self._ended: set[int] = set()
        self._preparing: Cancellation | None = None
        self._error: Exception | None = None
        self._closed = False
        self._engine.reserve(len(jobs))
        self._n_places = len(jobs)

    async def __aenter__(self) -> AsyncRun:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def begin(self) -> None:
        """Queue the jobs; first their pictures are encoded, and prompts scored whose log-probabilities are wanted.

        Raises ValueError for a picture that cannot be read, RuntimeError for a model that was closed, and what `abort`
        was given.
        """
        try:
            for index, job in enumerate(self._jobs):
                images = await self._prepare(job) if job.options.pictures or job.scores_prompt else {}
                if self._closed:
                    return
                take = self._taker(index)
                self._requests.append(self._engine.subscribe(job.tokens, job.options, take, images))
        except BaseException as failure:
            self.close()
            if self._error and isinstance(failure, Exception):
                raise self._error from failure
            raise

    async def pieces(self) -> list[Piece]:
        """All steps that wait, at least one; none when every job has ended.

        Raises what `abort` was given, RuntimeError for a request that has failed.
        """
        while not self._events:
            if self._error:
                raise self._error
            if len(self._ended) == len(self._jobs) or self._closed:
                self.close()
                return []
            # The engine's thread appends, then looks whether the reader sleeps: either it wakes it, or is seen here.
            self._wake.clear()
            self._asleep = True
            if not self._events:
                await self._wake.wait()
            self._asleep = False
        taken = [self._events.popleft() for _ in range(len(self._events))]
        self._go_on()
        return [self._piece(index, event) for index, event in taken if index not in self._ended]

    def abort(self, error: Exception) -> None:
        """End all jobs; the reader gets what was made, then the exception."""
        if not self._closed:
            self._error = error
            self.close()

    def close(self) -> None:
        """Cancel what still runs or waits: a running request ends with its current forward pass."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        if self._preparing:
            self._preparing()
        for request in self._requests:
            self._engine.release(request)
        self._engine.free(self._n_places)
        self._n_places = 0

    @property
    def closed(self) -> bool:
        """Whether nothing runs any more."""
        return self._closed

    def _piece(self, index: int, event: Event | BaseException) -> Piece:
        if isinstance(event, BaseException):
            raise event
        step = self._jobs[index].maker.step(event)
        if step.ending:
            self._ended.add(index)
            self._engine.release(self._requests[index])
            self._engine.free(1)
            self._n_places -= 1
        return Piece(index, step)

    def _taker(self, index: int) -> Deliver:
        """Return what takes the events of a request, in the engine's thread."""

        def take(event: Event | BaseException) -> None:
            self._events.append((index, event))
            if len(self._events) >= CAPACITY:
                self._hold(index)
            if self._asleep:
                self._asleep = False
                with contextlib.suppress(RuntimeError):  # a loop that is closed has no reader
                    self._loop.call_soon_threadsafe(self._wake.set)

        return take

    def _hold(self, index: int) -> None:
        if index >= len(self._requests):  # it has only just begun
            return
        request = self._requests[index]
        self._engine.hold(request, True)
        self._held.append(request)
        if len(self._events) < CAPACITY:  # read meanwhile, perhaps before the request was seen among the held
            self._go_on()

    def _go_on(self) -> None:
        """For both threads."""
        while self._held:
            with contextlib.suppress(IndexError):
                self._engine.hold(self._held.popleft(), False)

    async def _prepare(self, job: AnyJob) -> dict[str, Any]:
        """Encode pictures and score the prompt on another thread; a task that is cancelled ends that."""
        self._preparing = Cancellation()
        try:
            images = await asyncio.to_thread(self._engine.images, job.options, self._preparing)
            if job.scores_prompt:
                await asyncio.to_thread(job.prepare, self._engine, self._preparing)
        except asyncio.CancelledError:
            self._preparing()
            raise
        return images
