"""Ctrl-C as a question: the reply asks between two passes, so that no drawing is left half done."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """While it is entered, a first Ctrl-C is remembered (`bool(interrupt)`), a second one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self._requested = False
        self._before: Any = None

    def __bool__(self) -> bool:
        return self._requested

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
