"""Runs requests on the engine, for threads that wait for their tokens and for callbacks.

There is no thread for the engine. Whoever waits for a token and finds nobody stepping steps, for everybody, without
the GIL (`Engine.wait`); callbacks have one thread between them that waits for all of theirs.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytrimode._native import QueueFullError
from pytrimode.options.generation_options import ResolvedOptions
from pytrimode.process import FORKED, leak, register, stay_if_over

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytrimode._native import DraftLength, Engine, Event, Image
    from pytrimode.vision.encoder import Vision
    from pytrimode.vision.prompt import Pictures

_CALLBACKS = -1
"""The channel of all requests with a callback. Other requests have channels of their own."""

Deliver = Callable[["Event | BaseException"], None]
"""What takes the events of a request; an exception when no more will come, for it or for any other."""


class RequestCancelledError(RuntimeError):
    """A `Cancellation` was called."""

    def __init__(self) -> None:
        super().__init__("the request was cancelled")


class Cancellation:
    """Ends a request from another thread, whatever it waits for: call it, before the request begins or later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = False
        self._end: Callable[[], None] | None = None

    def __call__(self) -> None:
        """End it, with the current pass. Any thread may."""
        with self._lock:
            self._wanted = True
            end = self._end
        if end:
            end()

    def attach(self, end: Callable[[], None]) -> None:
        """Take what ends the request, now that it has begun. For the thread that runs it."""
        with self._lock:
            self._end = end
            wanted = self._wanted
        if wanted:
            end()

    def check(self) -> None:
        """Raise RequestCancelledError where the end is wanted: for work that looks between its parts."""
        if self._wanted:
            raise RequestCancelledError


class EngineLoop:
    """One engine, any number of requests, from any thread."""

    def __init__(
        self,
        engine: Engine,
        vision: Vision | None = None,
        limit: int | None = None,
        keep: Callable[[Engine], None] | None = None,
    ) -> None:
        """`vision`: what encodes the pictures of prompts. `limit`: see `reserve`. `keep`: takes the engine when it is
        closed, before it is let go.
        """
        self._engine: Engine | None = engine
        self._why_closed = "this TriMode is closed"
        self._limit = limit
        self._keep = keep
        self._reserved = 0
        self._vision = vision
        self._lock = threading.Lock()
        self._callbacks: dict[int, Deliver] = {}
        self._thread: threading.Thread | None = None
        self._channels = itertools.count(_CALLBACKS - 1, -1)
        register(self)

    def close(self) -> None:
        """Let go of the engine; requests that still run end with RuntimeError."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
            if self._keep is not None:
                self._keep(engine)

    def end(self) -> None:
        """Close it as the process ends: a thread that stays in a call for good may have the lock."""
        self._lock = threading.Lock()
        self.close()

    def leave_behind(self) -> None:
        """Forget the engine, in a fork: its threads are gone, and what they held stays locked."""
        self._lock = threading.Lock()
        self._callbacks, self._thread = {}, None
        self._why_closed = FORKED
        for held in (self._engine, self._vision):
            leak(held)
        self._engine = None

    def run(
        self, tokens: Sequence[int], options: ResolvedOptions, cancellation: Cancellation | None = None
    ) -> Generator[Event, None, None]:
        """Yield the events of one request until it has its finish reason.

        Leaving the iterator early (`close()`, an exception, KeyboardInterrupt) cancels the request.
        """
        request = self._submit(tokens, options, cancellation)
        if cancellation:
            cancellation.attach(lambda: self.cancel(request))
        try:
            while True:
                for event in self.engine.wait(request):
                    yield checked(event)
                    if event.finish_reason:
                        return
        finally:
            self.release(request)

    def complete(self, tokens: Sequence[int], options: ResolvedOptions) -> Event:
        """Run a request to its end, without Python in between: all its tokens in one event."""
        request = self._submit(tokens, options)
        try:
            return checked(self.engine.wait_to_end(request))
        finally:
            self.release(request)

    def run_many(
        self, jobs: Sequence[tuple[Sequence[int], ResolvedOptions]], parallel: int
    ) -> Generator[tuple[int, Event], None, None]:
        """Run requests, `parallel` of them at a time, in one thread: every event with the number of its job.

        Leaving the iterator early cancels what still runs.
        """
        channel = next(self._channels)
        running: dict[int, int] = {}
        started = 0
        try:
            while started < len(jobs) or running:
                while started < len(jobs) and len(running) < parallel:
                    tokens, options = jobs[started]
                    running[self._submit(tokens, options, channel=channel)] = started
                    started += 1
                for event in self.engine.wait(channel):
                    yield running[event.request_id], checked(event)
                    if event.finish_reason:
                        del running[event.request_id]
                        self.release(event.request_id)
        finally:
            for request in running:
                self.release(request)

    def images(self, options: ResolvedOptions, cancellation: Cancellation | None = None) -> dict[str, Any]:
        """Return what `submit` needs for the pictures of a prompt, encoded; nothing where there are none."""
        if options.pictures is None:
            return {}
        assert self._vision is not None, "pictures are taken by a model with vision only"
        return self._vision.arguments(self.engine, options.pictures, cancellation.attach if cancellation else None)

    def _submit(
        self,
        tokens: Sequence[int],
        options: ResolvedOptions,
        cancellation: Cancellation | None = None,
        *,
        channel: int = 0,
    ) -> int:
        images = self.images(options, cancellation)
        return self.engine.submit(tokens, options.engine, channel, **images)

    def reserve(self, n: int) -> None:
        """Take places for requests with callbacks, before their pictures are encoded; `free` gives them back.

        Raises QueueFullError, and takes none, when there are not so many: `limit` requests may run and wait.
        """
        with self._lock:
            if self._limit is not None and self._reserved + n > self._limit:
                raise QueueFullError(
                    f"the queue is full: {self._reserved} requests run or wait, and {self._limit} may; try again later"
                )
            self._reserved += n

    def free(self, n: int) -> None:
        """Give places back."""
        with self._lock:
            self._reserved -= n

    def subscribe(
        self, tokens: Sequence[int], options: ResolvedOptions, deliver: Deliver, images: Mapping[str, Any]
    ) -> int:
        """Run a request whose events go to a callback, in a thread that callbacks share; `release` ends it.

        `images`: see the method of that name, which may take long.
        """
        with self._lock:
            request = self.engine.submit(tokens, options.engine, _CALLBACKS, **images)
            self._callbacks[request] = deliver
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve_callbacks, name="pytrimode", daemon=True)
                self._thread.start()
        return request

    def cancel(self, request: int) -> None:
        """End a request with the current pass; its last event says so. One that is over stays as it is."""
        with contextlib.suppress(ValueError):
            if self._engine is not None:
                self._engine.cancel(request)

    def hold(self, request: int, held: bool) -> None:
        """Its reader is behind, or no longer: meanwhile it pauses, unless nothing else could go on."""
        with contextlib.suppress(ValueError):
            if self._engine is not None:
                self._engine.hold(request, held)

    def release(self, request: int) -> None:
        """Forget a request; one that still runs is cancelled. Does not wait for the pass that is under way."""
        with self._lock:
            self._callbacks.pop(request, None)
        # A request that has no events to come is unknown to an engine that was closed.
        with contextlib.suppress(ValueError):
            if self._engine is not None:
                self._engine.release(request)

    @property
    def draft_length(self) -> DraftLength:
        """See `TriMode.draft_length`."""
        return self.engine.draft_length

    def clear_cache(self) -> None:
        """Drop the cells of finished requests, kept ones too."""
        self.engine.clear_cache()

    def logits(
        self,
        tokens: Sequence[int],
        block_start: int,
        lora: bool,
        first: int,
        pictures: Pictures | None = None,
        cache_scope: int = 0,
        lora_scales: Sequence[float] = (),
    ) -> NDArray[np.float32]:
        """See `TriMode.logits`; `cache_scope` and `lora_scales`: as a request's."""
        images = self._images_of(pictures)
        return self.engine.logits(
            tokens, block_start, lora, first, cache_scope=cache_scope, lora_scales=lora_scales, **images
        )

    def score(
        self,
        tokens: Sequence[int],
        continuations: Sequence[Sequence[int]],
        pictures: Pictures | None = None,
        cache_scope: int = 0,
        lora_scales: Sequence[float] = (),
        cancellation: Cancellation | None = None,
    ) -> list[list[float]]:
        """See `Engine.score`. Raises RequestCancelledError once `cancellation` is called."""
        check = cancellation.check if cancellation else None
        images = self._images_of(pictures)
        return self.engine.score(
            tokens, continuations, cache_scope=cache_scope, lora_scales=lora_scales, check=check, **images
        )

    def save_state(
        self, tokens: Sequence[int], pictures: Pictures | None, lora_scales: Sequence[float]
    ) -> tuple[list[int], NDArray[np.uint8], NDArray[np.uint8]]:
        """See `Engine.save_state`."""
        return self.engine.save_state(tokens, lora_scales=lora_scales, **self._images_of(pictures))

    def image_runs(self, tokens: Sequence[int]) -> list[tuple[int, int, str, int, int]]:
        """See `Engine.image_runs`."""
        return self.engine.image_runs(tokens)

    def add_image(self, key: str, n_rows: int) -> Image:
        """See `Engine.add_image`."""
        return self.engine.add_image(key, n_rows)

    def _images_of(self, pictures: Pictures | None) -> dict[str, Any]:
        if pictures is None or self._vision is None:
            return {}
        return self._vision.arguments(self.engine, pictures)

    def load_state(
        self, tokens: Sequence[int], k: NDArray[np.uint8], v: NDArray[np.uint8], lora_scales: Sequence[float]
    ) -> None:
        """See `Engine.load_state`."""
        self.engine.load_state(tokens, k, v, lora_scales)

    @property
    def engine(self) -> Engine:
        """Return the engine. Raises RuntimeError once it is closed."""
        engine = self._engine
        if engine is None:
            stay_if_over()
            raise RuntimeError(self._why_closed)
        return engine

    def _serve_callbacks(self) -> None:
        while True:
            try:
                events = self.engine.wait(_CALLBACKS)
            except Exception as error:
                with self._lock:
                    left, self._thread = list(self._callbacks.values()), None
                    self._callbacks.clear()
                for deliver in left:
                    deliver(error)
                return
            for event in events:
                if taker := self._taker(event.request_id):
                    taker(RuntimeError(event.error) if event.finish_reason == "failed" else event)
            with self._lock:
                if not events and not self._callbacks:
                    self._thread = None
                    return

    def _taker(self, request: int) -> Deliver | None:
        """Return what takes the events of a request; None once it was released."""
        if deliver := self._callbacks.get(request):
            return deliver
        # A pass may be over before `subscribe`, which holds the lock until then, has noted the request.
        with self._lock:
            return self._callbacks.get(request)


def checked(event: Event) -> Event:
    """Return the event. Raises RuntimeError where its request failed."""
    if event.finish_reason == "failed":
        raise RuntimeError(event.error)
    return event
