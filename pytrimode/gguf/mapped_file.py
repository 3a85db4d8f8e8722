"""A memory-mapped file whose pages are given back after use, so that reading all of it takes no memory."""

from __future__ import annotations

import mmap
from pathlib import Path

from pytrimode.gguf.errors import ConversionError


class MappedFile:
    """A file to read in ranges. Raises OSError when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def read(self, start: int, end: int) -> memoryview:
        """Bytes [start, end), without a copy. Release the view before `forget` and `close`.

        Raises ConversionError where the file has become shorter; one that does so later ends the process
        (`native/util/lost_file.h`).
        """
        if end > (size := self._map.size()):
            raise ConversionError(f"{self.path}: it was cut to {size} bytes while it is read: leave it alone")
        return memoryview(self._map)[start:end]

    def forget(self, start: int, end: int) -> None:
        """Let the kernel take back the pages of [start, end): they no longer count as this process's memory."""
        self._advise("MADV_DONTNEED", start, end)

    def prefetch(self, start: int, end: int) -> None:
        """Let the kernel start to read [start, end); does not wait."""
        self._advise("MADV_WILLNEED", start, end)

    def close(self) -> None:
        """Unmap it."""
        self._map.close()

    def _advise(self, advice: str, start: int, end: int) -> None:
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        if hasattr(mmap, advice) and start < end:
            self._map.madvise(getattr(mmap, advice), first, end - first)
