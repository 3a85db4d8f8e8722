"""An output file, or a directory of files, that appears whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.sizes import size_text

_PIECE_BYTES = 1 << 20


class OutputFile:
    """A file that is written out of sight and gets its name in `publish`, complete and on the disk.

    On Linux it has no name until then (O_TMPFILE), so that not even SIGKILL leaves anything behind. Where the file
    system cannot do that it is `OUT.part-PID`, removed on every error and signal that Python sees; what a SIGKILL
    leaves there is removed by the next conversion to the same name.

    Use it as a context manager; without `publish` the file is gone at the end.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        """Open it. Raises ConversionError when `path` exists (without `force`) or its directory cannot be written."""
        self.path = path
        self._force = force
        self._part: Path | None = None
        self._written = 0
        check_output(path, force=force)
        try:
            _remove_abandoned(path)
            self.file: BinaryIO = self._open()
        except OSError as error:
            raise output_error(path, error) from None

    def write(self, data: bytes) -> None:
        """Append `data` and let the kernel start to write it to the disk. Raises ConversionError when that fails."""
        view = memoryview(data)
        try:
            while view:
                view = view[self.file.write(view) :]
            if hasattr(os, "posix_fadvise"):
                # Without this, all of a file that fits into memory is written in `publish`. On Linux "not needed"
                # starts the writing of changed pages and does not wait (mm/fadvise.c).
                os.posix_fadvise(self.file.fileno(), self._written, len(data), os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise output_error(self.path, error) from None
        self._written += len(data)

    def rewrite(self, start: int, data: bytes) -> None:
        """Replace what stands from `start` on. Raises ConversionError when that fails."""
        try:
            self.file.seek(start)
            self.file.write(data)
            self.file.seek(self._written)
        except OSError as error:
            raise output_error(self.path, error) from None

    def equals_existing(self) -> bool:
        """Whether the file that has the name now holds what was written. Raises ConversionError if it is unreadable."""
        try:
            self.file.flush()
            self.file.seek(0)
            with self.path.open("rb") as existing:
                while True:
                    ours, theirs = self.file.read(_PIECE_BYTES), existing.read(_PIECE_BYTES)
                    if ours != theirs or not ours:
                        return ours == theirs
        except OSError as error:
            raise output_error(self.path, error) from None

    def publish(self) -> None:
        """Flush to the disk and give the file its name."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            if self._part is None:
                self._name_nameless()
            else:
                self._rename()
            _sync_directory(self.path.parent)
        except FileExistsError:
            raise ConversionError(f"{self.path}: appeared during the conversion: give --force to replace it") from None
        except OSError as error:
            raise output_error(self.path, error) from None

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._part is not None:
            self._part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a last flush on a full disk
            self.file.close()

    def _open(self) -> BinaryIO:
        flags = getattr(os, "O_TMPFILE", None)
        if flags is not None and Path("/proc/self/fd").is_dir():
            with contextlib.suppress(OSError):  # not on this file system
                return FileIO(os.open(self.path.parent, flags | os.O_RDWR, 0o666), "r+")
        part = _part(self.path, str(os.getpid()))
        file = FileIO(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "r+")
        self._part = part
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file

    def _name_nameless(self) -> None:
        if not self._force:
            self._link(self.path)
            return
        # A link cannot replace a file; a rename can.
        self._part = _part(self.path, str(os.getpid()))
        self._part.unlink(missing_ok=True)
        self._link(self._part)
        self._rename()

    def _link(self, target: Path) -> None:
        # src_dir_fd only makes os.link call linkat, which follows the link in /proc (man 2 open, O_TMPFILE).
        directory = os.open("/proc/self/fd", os.O_RDONLY)
        try:
            os.link(str(self.file.fileno()), target, src_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)

    def _rename(self) -> None:
        assert self._part is not None
        if not self._force and self.path.exists():
            raise FileExistsError
        self._part.replace(self.path)
        self._part = None


@contextlib.contextmanager
def output_directory(path: Path) -> Iterator[Path]:
    """Yield a directory to fill out of sight: it becomes `path` where the block ends without an error, else it is
    removed.

    Until then it is `PATH.part-PID`; what a SIGKILL leaves there is removed by the next use of the same name. Raises
    ConversionError when `path` exists or cannot be written.
    """
    if path.exists():
        raise ConversionError(f"{path}: exists already: give the name of a new directory")
    if not path.parent.is_dir():
        raise ConversionError(f"{path}: the directory {path.parent} does not exist: create it first")
    part = _part(path, str(os.getpid()))
    with contextlib.ExitStack() as stack:
        try:
            _remove_abandoned(path)
            part.mkdir()
            stack.callback(shutil.rmtree, part, ignore_errors=True)
            descriptor = os.open(part, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield part
            part.rename(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise output_error(path, error) from None


def check_output(path: Path, *, force: bool) -> None:
    """Raise ConversionError when `path` cannot become an output file."""
    if path.is_dir():
        raise ConversionError(f"{path}: is a directory: give the name of the GGUF file to write")
    if not path.parent.is_dir():
        raise ConversionError(f"{path}: the directory {path.parent} does not exist: create it first")
    if path.exists() and not force:
        raise ConversionError(f"{path}: exists already: give --force to replace it, or another name")


def check_space(path: Path, n_bytes: int) -> None:
    """Raise ConversionError when the file system of `path` has less than `n_bytes` free."""
    space = os.statvfs(path.parent)
    free = space.f_bavail * space.f_frsize
    if space.f_blocks and free < n_bytes:
        raise ConversionError(f"{path}: disk full: {size_text(n_bytes)} are needed, {size_text(free)} are free")


def output_error(path: Path, error: OSError) -> ConversionError:
    """Return the error for an output that the system refuses."""
    return ConversionError(f"{path}: cannot be written: {error.strerror}: nothing was left behind")


def _part(path: Path, owner: str) -> Path:
    return path.with_name(f"{path.name}.part-{owner}")


def _remove_abandoned(path: Path) -> None:
    """Remove the parts of conversions that were killed: nobody holds their lock."""
    for part in path.parent.glob(f"{glob.escape(path.name)}.part-*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(part, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if part.is_dir():
                    shutil.rmtree(part)
                else:
                    part.unlink()
            finally:
                os.close(descriptor)


def _sync_directory(path: Path) -> None:
    with contextlib.suppress(OSError):  # some network file systems refuse
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
