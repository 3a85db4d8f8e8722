"""The life of the process: engines end before it does, and do not go on in a fork of it."""

from __future__ import annotations

import atexit
import ctypes
import os
import time
from typing import Protocol
from weakref import WeakSet

from pytrimode import _native

_PATIENCE = 10.0
"""Seconds at the exit for passes under way, of threads that Python does not wait for."""
FORKED = (
    "this process is a fork of one that had loaded a model: threads of the engine and contexts of a GPU do not go on "
    "in a fork. Load models in the child alone, or start it anew: multiprocessing.set_start_method('spawn')"
)


class Lived(Protocol):
    """What uses an engine."""

    def end(self) -> None:
        """Close it, as the process ends; other threads may be in any of its methods, and stay there."""

    def leave_behind(self) -> None:
        """Forget it, in a fork: it was the parent's."""


_alive: WeakSet[Lived] = WeakSet()
_had_engine = False
_is_fork = False


def register(one: Lived) -> None:
    """Take what is to be ended with the process."""
    global _had_engine
    _had_engine = True
    _alive.add(one)


def check_not_forked() -> None:
    """Raise RuntimeError in a process that cannot load a model: its parent had one when it was forked."""
    if _is_fork:
        raise RuntimeError(FORKED)


def stay_if_over() -> None:
    """Go on, unless the process ends and this thread is not the one that ends it: it stays here then, for good."""
    _native.stay_if_over()


def leak(one: object) -> None:
    """Keep an object for good: what it would free is not this process's."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


@atexit.register
def _end() -> None:
    """End what is alive. Threads that are within the engine then stay there; their passes end first."""
    _native.begin_process_end()
    for one in list(_alive):
        one.end()
    limit = time.monotonic() + _PATIENCE
    while _native.calls_under_way() and time.monotonic() < limit:
        time.sleep(0.002)


def _after_fork() -> None:
    global _is_fork
    _native.forget_calls()
    # An engine that is gone has left its threads to OpenMP, which would wait for them.
    _is_fork = _had_engine
    for one in list(_alive):
        one.leave_behind()
    _alive.clear()


os.register_at_fork(after_in_child=_after_fork)
