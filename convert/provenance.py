"""SHA-256 of the files that a model was made of, computed beside the conversion."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.metadata import Metadata

PIECE_BYTES = 1 << 20
PLACEHOLDER = "0" * 64
"""Stands in the metadata while the digests are being computed: they come out as long."""


class SourceHashes:
    """Digests of files, computed in a thread of its own from the start.

    Use it as a context manager: leaving it ends the thread.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self._digests: list[str] = []
        self._error: OSError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sha256", daemon=True)
        self._thread.start()

    def add_to(self, metadata: Metadata) -> None:
        """Write the names of the files, and placeholders where the digests will stand."""
        if self.files:
            metadata.strings(keys.TRIMODE_SOURCE_FILES, [path.name for path in self.files])
            metadata.strings(keys.TRIMODE_SOURCE_SHA256, [PLACEHOLDER] * len(self.files))

    def result(self) -> list[str]:
        """Return the digests, in order; waits for them. Raises ConversionError when a file cannot be read."""
        self._thread.join()
        if self._error:
            raise ConversionError(f"{self._error.filename}: cannot be read: {self._error.strerror}") from None
        return self._digests

    def __enter__(self) -> SourceHashes:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for path in self.files:
                digest = hashlib.sha256()
                with path.open("rb", buffering=0) as file:
                    while (piece := file.read(PIECE_BYTES)) and not self._stop.is_set():
                        digest.update(piece)
                self._digests.append(digest.hexdigest())
        except OSError as error:
            self._error = error
