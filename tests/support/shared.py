"""What is dear to make is made once, by the first of the workers that run the tests, and read by all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def shared_directory(factory: pytest.TempPathFactory, name: str) -> Path:
    """A directory of this session that every worker finds under this name."""
    base = factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    directory.mkdir(exist_ok=True)
    return directory


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Keep other workers out of a directory."""
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The directory of this name, filled by `make` in the worker that comes first; again where that failed."""
    directory = shared_directory(factory, name)
    done = directory / ".done"
    with only_one(directory):
        if not done.exists():
            make(directory)
            done.touch()
    return directory
