"""Loading a model for a command."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from rich.console import Console

from pytrimode.files.shipped_model import shipped_gguf
from pytrimode.hub.pretrained import local_model
from pytrimode.options.load_options import LoadOptions
from pytrimode.trimode import TriMode


def load(model: str | None, loading: LoadOptions, *, n_parallel: int = 1, max_queue: int | None = None) -> TriMode:
    """Return the model that the user named, or the shipped one; raises as `TriMode` does."""
    console = Console(stderr=True)
    path = local_model(model, notice=_notice) if model else shipped_gguf(notice=_notice)
    # Its thread is for terminals only.
    with console.status(f"loading {path.name}") if console.is_terminal else nullcontext():
        return TriMode(path, **{**vars(loading), "n_parallel": n_parallel, "max_queue": max_queue})


def _notice(text: str) -> None:
    print(text, file=sys.stderr)
