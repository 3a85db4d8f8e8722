"""The answers that are being made: their slots, their places in the queue, and how they end."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect

from pytrimode import QueueFullError
from pytrimode.answers.step import Step
from pytrimode.async_run import AsyncRun, Piece
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.server.errors import ApiError, from_exception
from pytrimode.server.metrics import Metrics
from pytrimode.server.prompts import Prepared
from pytrimode.server.slot_files import Held
from pytrimode.trimode import TriMode

_log = logging.getLogger(__name__)


@dataclass
class Task:
    """An answer that is being made."""

    number: int
    options: GenerationOptions
    n_prompt: int
    """Tokens of the prompt."""
    slot: int = -1
    """-1: it waits."""
    n_decoded: int = 0
    seen: float = 0.0
    """When its last tokens came."""
    held: Held = field(default_factory=Held)
    """Its tokens so far, where they are kept."""


class Generation:
    """The answers to one HTTP request. Methods are for the event loop."""

    def __init__(self, desk: Desk, tasks: Sequence[Task], run: AsyncRun, timeout: float) -> None:
        self._desk = desk
        self._tasks = dict(enumerate(tasks))
        self._run = run
        self._created = time.monotonic()
        error = ApiError(504, f"the answer was not finished within {timeout:g} s")
        self._timer = asyncio.get_running_loop().call_later(timeout, self.abort, error)

    async def begin(self) -> None:
        """Queue them. Raises ApiError."""
        with self._failures():
            await self._run.begin()

    async def pieces(self) -> list[Piece]:
        """All steps that wait, at least one; empty when every answer is finished. Raises what `abort` was given, and
        ApiError for an answer that cannot be made."""
        with self._failures():
            pieces = await self._run.pieces()
        for index, step in pieces:
            self._saw(index, step)
        if not pieces:
            self.close()
        return pieces

    def abort(self, error: Exception) -> None:
        """End all answers; the reader gets what was made, then the exception."""
        self._run.abort(error)
        self._end("cancelled")

    def close(self) -> None:
        """End the request: its answers are cancelled if they still run or wait."""
        self._run.close()
        self._end("cancelled")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Raise what the engine raises as what a client is told of it; `abort`'s own errors as they are."""
        try:
            yield
        except (ApiError, ClientDisconnect):
            raise
        except Exception as error:
            failure = from_exception(error)
            if failure.status >= 500:
                _log.error("an answer failed", exc_info=error)
            self._run.close()
            self._end("failed")
            raise failure from None

    def _saw(self, index: int, step: Step) -> None:
        task = self._tasks.get(index)
        if task is None:
            return
        if task.slot < 0:
            self._desk.seat(task)
        now = time.monotonic()
        if step.tokens and task.n_decoded:
            self._desk.metrics.tokens(len(step.tokens), now - task.seen)
        elif step.tokens:
            self._desk.metrics.first_token(now - self._created)
        task.seen = now
        task.n_decoded += len(step.tokens)
        if self._desk.keeps_tokens:
            task.held.tokens += step.tokens
        if step.ending:
            self._desk.metrics.answered(step.ending.measured, now - self._created)
            self._desk.leave(self._tasks.pop(index), "finished", now - self._created)

    def _end(self, outcome: str) -> None:
        self._timer.cancel()
        while self._tasks:
            self._desk.leave(self._tasks.popitem()[1], outcome)
        self._desk.forget(self)


class Desk:
    """Takes requests, and knows what becomes of them."""

    def __init__(self, model: TriMode, metrics: Metrics, timeout: float, *, keeps_tokens: bool = False) -> None:
        """`timeout`: seconds that the answers to a request may take. `keeps_tokens`: those of each slot's last request,
        for `held`."""
        self.metrics = metrics
        self.slots: list[Task | None] = [None] * model.n_parallel
        """The answers that have rows in the engine's passes."""
        self.keeps_tokens = keeps_tokens
        self.held = [Held() for _ in self.slots]
        """By slot, of the last answer that has left it."""
        self._model = model
        self._timeout = timeout
        self._limit = math.inf if model.max_queue is None else model.n_parallel + model.max_queue
        self._n_tasks = 0
        self._waiting: set[int] = set()
        self._seconds = 1.0
        self._generations: set[Generation] = set()
        self._stopping = False

    @property
    def processing(self) -> int:
        """Answers being made."""
        return sum(task is not None for task in self.slots)

    @property
    def waiting(self) -> int:
        """Answers that wait for a slot."""
        return len(self._waiting)

    def open(self, prepared: Prepared, cache_scope: int) -> Generation:
        """Give the answers to one request their places; they share the cache with others of their scope only.

        Raises ApiError 429 when they do not fit the queue, 503 when the server is stopping.
        """
        jobs = [asked.job.in_scope(cache_scope) for asked in prepared.asked]
        self.check_open()
        if len(jobs) > self._limit:
            raise ApiError(400, f"{len(jobs)} answers: this server takes at most {self._limit} at a time", param="n")
        try:
            run = self._model.run_async(jobs)
        except QueueFullError:
            raise self.busy() from None
        tasks = []
        for asked in prepared.asked:
            self._n_tasks += 1
            tasks.append(Task(self._n_tasks, asked.options, len(asked.job.tokens)))
            if self.keeps_tokens:
                tasks[-1].held = Held(list(asked.job.tokens), asked.job.options.pictures)
        generation = Generation(self, tasks, run, self._timeout)
        self._waiting.update(task.number for task in tasks)
        self._generations.add(generation)
        return generation

    def seat(self, task: Task) -> None:
        """Give a slot to a task that has rows in a pass, as soon as the answer before it has left that one here too."""
        free = next((i for i, other in enumerate(self.slots) if other is None), None)
        if free is not None:
            task.slot, self.slots[free] = free, task
            self._waiting.discard(task.number)

    def leave(self, task: Task, outcome: str, seconds: float | None = None) -> None:
        """Count a task that is over: "finished", after `seconds`, "cancelled" or "failed"."""
        self._waiting.discard(task.number)
        if task.slot >= 0:
            self.slots[task.slot] = None
            self.held[task.slot] = task.held
        if seconds is not None:
            self._seconds += (seconds - self._seconds) / 8
        self.metrics.ended(outcome)

    def forget_tokens(self, slot: int) -> int:
        """Forget those of all slots, which share the cache; returns how many they were of this one."""
        n_tokens = len(self.held[slot].tokens)
        self.held = [Held() for _ in self.slots]
        return n_tokens

    def forget(self, generation: Generation) -> None:
        """Forget a request that has no tasks any more."""
        self._generations.discard(generation)

    def refuse_new(self) -> None:
        """From now on `open` raises."""
        self._stopping = True

    def end_all(self) -> None:
        """End every answer; its reader is told that the server stops."""
        for generation in list(self._generations):
            generation.abort(ApiError(503, "the server is stopping"))

    def close(self) -> None:
        """Cancel everything."""
        self._stopping = True
        for generation in list(self._generations):
            generation.close()

    def check_open(self) -> None:
        """Raise ApiError 503 when the server is stopping."""
        if self._stopping:
            raise ApiError(503, "the server is stopping", headers={"Connection": "close"})

    def busy(self) -> ApiError:
        """Return the answer to a request for which there is no place."""
        self.metrics.refused()
        wait = math.ceil(self._seconds * max(1, self.waiting) / len(self.slots))
        return ApiError(
            429,
            f"the queue is full ({self._model.max_queue} answers wait): try again later",
            headers={"Retry-After": str(max(1, wait))},
        )
