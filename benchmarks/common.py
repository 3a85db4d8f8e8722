"""What these scripts share. The helpers in tests/support/ serve them too: quick tests run the same code."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from pytrimode import TriMode
from pytrimode.convert import convert
from pytrimode.files.shipped_model import shipped_checkpoint, shipped_gguf
from tests.support.synthetic import make_checkpoint

T = TypeVar("T")


def progress(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the items, with a bar on stderr."""
    yield from track(items, what, total, console=Console(stderr=True))


def tiny_model(n_ctx: int = 1024) -> tuple[TriMode, Path]:
    """Return the shipped model as Q8_0 on one thread, and its checkpoint; $PYTRIMODE_MODEL_DIR names another
    checkpoint.
    """
    return TriMode(shipped_gguf(print), n_ctx=n_ctx, n_threads=1), shipped_checkpoint()


@contextmanager
def random_model(n_ctx: int = 1024) -> Iterator[TriMode]:
    """Load a model of random weights, which emits any token there is."""
    with tempfile.TemporaryDirectory() as root:
        source = make_checkpoint(Path(root) / "random", hidden=256)
        with TriMode(convert(source, Path(root) / "random.gguf", "f16").path, n_ctx=n_ctx, n_threads=1) as model:
            yield model
