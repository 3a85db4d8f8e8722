"""A model as the user names it, to a file: what commands and `TriMode.from_pretrained` call."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from pytrimode.hub.reference import Reference, canonical, on_hub, reference_of
from pytrimode.hub.store import find, mark_used

_log = logging.getLogger(__name__)


def local_model(model: str, *, notice: Callable[[str], None]) -> Path:
    """Return the file of a model: a path as it is, `OWNER/NAME[:TYPE]` from the store, or from the hub at first use.

    `notice` is told what is downloaded and converted; bars are shown where stderr is a terminal. Raises ValueError for
    what is no name, and as `fetch`.
    """
    reference = reference_of(model)
    return Path(model) if reference is None else _here(reference, notice, progress=sys.stderr.isatty())


def stored_model(model: str) -> Path:
    """Return the file of a model as `local_model` does, without asking the hub. Raises FileNotFoundError."""
    reference = reference_of(model)
    if reference is None:
        return Path(model)
    found = find(reference)
    if found is None:
        raise FileNotFoundError(f"{reference}: no such file, and not downloaded: pytrimode models pull {reference}")
    return found.path


def planned_model(model: str) -> str | Path:
    """Return what `plan` reads of a model: of `OWNER/NAME` that is not here its config.json alone is downloaded."""
    from pytrimode.plan.model_shape import built_in

    reference = reference_of(model)
    if reference is None or built_in(model):
        return model
    if found := find(reference):
        return found.path
    from pytrimode.hub.fetch import fetch_config

    return fetch_config(reference)


def pretrained(repo: str, kind: str | None = None) -> Path:
    """Return the file of a model on the hub, in a type, which may have been downloaded before. Notices are logged.

    Raises ValueError for what is no name, and as `fetch`.
    """
    reference = reference_of(on_hub(repo))
    assert reference is not None  # on_hub: never a path
    if kind is not None:
        reference = Reference(reference.repo, canonical(kind))
    return _here(reference, _log.info, progress=True)


def _here(reference: Reference, notice: Callable[[str], None], *, progress: bool) -> Path:
    if found := find(reference):
        path = found.path
    else:
        from pytrimode.hub.fetch import fetch  # takes a while to import

        path = fetch(reference, notice=notice, progress=progress)
    mark_used(path)
    return path
