"""What mode auto has measured of a model on this machine, kept for the next time that the model is opened.

A small JSON file in the cache directory for each model, machine and way to load. It is a prior: what the engine
measures from then on soon weighs more (`native/speculation/learned.h`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytrimode import _native
from pytrimode.files.cache_dir import cache_dir

if TYPE_CHECKING:
    from pytrimode._native import Engine

_log = logging.getLogger(__name__)

VARIABLE = "PYTRIMODE_TUNING_CACHE"
"""0 in the environment: nothing is read and nothing is kept."""
_OFF = ("0", "false", "no", "off")
_FIELDS = ("passes", "drafts", "ngrams", "after_rejection")
_MAX_BYTES = 1 << 16
_MAX_FILES = 100
_PATIENCE = 1.0
"""Seconds that `save` waits for a pass under way."""


def switched_off() -> bool:
    """Whether the environment says so."""
    return os.environ.get(VARIABLE, "").lower() in _OFF


def key_of(files: Sequence[str | Path], **how: Any) -> dict[str, Any]:
    """Return what the measurements depend on, as JSON: the files by path, size and time; this machine; the version;
    `how` the model was loaded.
    """
    found = [(str(path.resolve()), path.stat()) for path in map(Path, files)]
    key = {
        "files": [[path, stat.st_size, stat.st_mtime_ns] for path, stat in found],
        "version": version("pytrimode"),
        "devices": [[device["name"], device["description"]] for device in _native.devices()],
        "processors": os.cpu_count(),
        "products": _native.product_kernels_in_use(),
        **how,
    }
    settled: dict[str, Any] = json.loads(json.dumps(key, default=str))
    return settled


class TuningCache:
    """The file of one key. Neither of its methods raises: what cannot be read or written is logged, and left."""

    def __init__(self, key: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.path = cache_dir() / "tuning" / f"{digest[:32]}.json"
        self._key = key

    def restore(self, engine: Engine) -> None:
        """Let a new engine begin with what the file holds, if there is one."""
        try:
            if not self.path.is_file():  # a pipe would wait for a writer
                return
            with self.path.open("rb") as stream:
                data = stream.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                raise ValueError("it is too long")
            content = json.loads(data)
            if content["key"] != self._key:
                raise ValueError("it belongs to another model")
            engine.draft_length.restore(_native.Learned(**{name: content[name] for name in _FIELDS}))
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            _log.warning("%s is ignored: %s", self.path, _first_line(error))

    def save(self, engine: Engine) -> None:
        """Keep what the engine has learned, if it has learned anything; several processes may."""
        learned = engine.learned(_PATIENCE)
        if learned is None or not learned.passes:
            return
        content = {"key": self._key} | {name: getattr(learned, name) for name in _FIELDS}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(self.path, json.dumps(content).encode())
            self._drop_oldest()
        except OSError as error:
            _log.debug("%s is not written: %s", self.path, error)

    def _drop_oldest(self) -> None:
        files = sorted(self.path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for file in files[: -_MAX_FILES or None]:
            file.unlink(missing_ok=True)


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears with all of its content, in place of one of the same name."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _first_line(error: Exception) -> str:
    """Return an error in a line; nanobind lists signatures below its own."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
