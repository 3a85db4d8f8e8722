"""The model behind a server: loading, ready, or failed to load."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from pytrimode.server.desk import Desk
from pytrimode.server.errors import ApiError, from_exception
from pytrimode.server.metrics import Metrics
from pytrimode.server.prompts import Prompts
from pytrimode.server.settings import ServerSettings
from pytrimode.server.threads import deep_pool
from pytrimode.trimode import TriMode

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ready:
    """What there is once the model is loaded."""

    model: TriMode
    prompts: Prompts
    desk: Desk
    name: str
    created: int
    """Unix time of the end of loading."""


class Host:
    """Loads the model in a thread of its own, so that the event loop answers meanwhile."""

    def __init__(self, settings: ServerSettings, load: Callable[[], TriMode]) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.failure: Exception | None = None
        """Why the model could not be loaded."""
        self.url = ""
        """Where this machine reaches it, for the log."""
        self._load = load
        self._ready: Ready | None = None
        self._text_thread: ThreadPoolExecutor = deep_pool(1, "text")
        self._grammar_threads: ThreadPoolExecutor = deep_pool(2, "grammars")
        self._closed = threading.Event()
        for name, text in (
            ("processing", "Number of requests processing."),
            ("deferred", "Number of requests deferred."),
        ):
            self.metrics.watch(f"llamacpp:requests_{name}", text, partial(self._count, name))

    @property
    def ready(self) -> Ready:
        """Raises ApiError 503 before the model is loaded, with llama-server's message."""
        if self._ready is None:
            raise ApiError(503, "Loading model", headers={"Retry-After": "1"})
        return self._ready

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded."""
        return self._ready is not None

    @property
    def desk(self) -> Desk:
        """Raises as `ready`."""
        return self.ready.desk

    def _count(self, name: str) -> int:
        desk = self._ready.desk if self._ready else None
        return 0 if desk is None else desk.processing if name == "processing" else desk.waiting

    def refuse_new(self) -> None:
        """Refuse requests that come from now on: the server is to stop."""
        if self._ready:
            self._ready.desk.refuse_new()

    def end_all(self) -> None:
        """End every answer."""
        if self._ready:
            self._ready.desk.end_all()

    def cancel_all(self) -> None:
        """Cancel what still runs."""
        if self._ready:
            self._ready.desk.close()

    def start(self) -> None:
        """Begin to load."""
        threading.Thread(target=self._run_load, name="load", daemon=True).start()

    async def text_work(self, function: Callable[[], T], *, light: bool = False, grammar: bool = False) -> T:
        """Call what tokenizes, renders or translates: off the event loop, one after another; at once where it is
        `light`, less work than the way to another thread and back. With a `grammar`, which may take its time, it goes
        where nobody else waits.

        A ValueError is about what the client sent: it becomes an ApiError.
        """
        try:
            if light:
                return function()
            threads = self._grammar_threads if grammar else self._text_thread
            return await asyncio.get_running_loop().run_in_executor(threads, function)
        except ValueError as error:
            raise from_exception(error) from None

    def close(self) -> None:
        """Free the model."""
        self._closed.set()
        for threads in (self._text_thread, self._grammar_threads):
            threads.shutdown(wait=True, cancel_futures=True)
        if self._ready:
            self._ready.model.close()

    def _run_load(self) -> None:
        started = time.monotonic()
        try:
            model = self._load()
            # What no request could have is an error of the start.
            model.resolve(self.settings.defaults, n_prompt=1)
            name = self.settings.alias or Path(model.model_path).stem
            ready = Ready(
                model,
                Prompts(model, self.settings, name),
                Desk(model, self.metrics, self.settings.timeout, keeps_tokens=bool(self.settings.slot_save_path)),
                name,
                int(time.time()),
            )
        except Exception as error:
            self.failure = error
            return
        if self._closed.is_set():
            model.close()
            return
        self._ready = ready
        fields = {
            "model": name,
            "n_ctx": model.n_ctx,
            "slots": model.n_parallel,
            "threads": model.n_threads,
            "mode": self.settings.defaults.mode,
            "seconds": round(time.monotonic() - started, 2),
        }
        _log.info("model loaded", extra={"fields": fields | ({"url": self.url} if self.url else {})})
        try:
            model.prepare_grammars()  # not in the first request that has one
        except Exception:
            if not self._closed.is_set():
                _log.warning("grammars could not be prepared", exc_info=True)
