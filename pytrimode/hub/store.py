"""What is here of models from the hub: `CACHE/hub/OWNER--NAME/COMMIT/` with GGUF files, or links to downloaded ones.

A converted model lies there itself, under the converter's conventional names. A downloaded one is a link into the hub's
cache, and so are its drafter LoRA and its vision tower, under names at which they are found. `checkpoint` is a link to
the snapshot that a conversion read. When a model was used is the access time of its file or link.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pytrimode.files.cache_dir import cache_dir
from pytrimode.gguf.file_names import (
    encoding_of,
    lora_path,
    mmproj_path,
    part_of,
    part_path,
    whole_name,
    without_encoding,
)
from pytrimode.gguf.hub_layout import SNAPSHOTS
from pytrimode.hub.reference import Reference, canonical

CHECKPOINT = "checkpoint"
SAFETENSORS = "safetensors"
"""The type of a downloaded checkpoint, in lists."""


@dataclass(frozen=True)
class Stored:
    """A model, or the checkpoint that models are converted from.

    Attributes:
        repo: "OWNER/NAME".
        type: "q8_0", or `SAFETENSORS`.
        path: its first file, or directory.
        n_bytes: of its files, without a drafter LoRA and a vision tower.
        used: seconds since the epoch.
    """

    repo: str
    type: str
    path: Path
    n_bytes: int
    used: float

    @property
    def reference(self) -> str:
        """Return the name by which commands take it."""
        return f"{self.repo}:{self.type}"


def home_of(repo: str) -> Path:
    """Return the directory of a repository."""
    return _root() / repo.replace("/", "--", 1)


def stored(repo: str | None = None) -> list[Stored]:
    """Return what is here whole, of one repository or of all: by name, the last used first, a checkpoint last."""
    homes = [home_of(repo)] if repo else sorted(_root().glob("*--*"))
    return [
        found for home in homes for found in sorted(_in(home), key=lambda one: (one.type == SAFETENSORS, -one.used))
    ]


def find(reference: Reference, commit: str | None = None) -> Stored | None:
    """Return a model that is here, of one commit or of any: of the type that is named, else the one used last."""
    home = home_of(reference.repo)
    commits = [path for path in home.iterdir() if path.is_dir()] if home.is_dir() else []
    models = [one for path in commits if commit in (None, path.name) for one in _models_in(reference.repo, path)]
    wanted = [one for one in models if reference.type in (None, one.type)]
    return max(wanted, key=lambda one: one.used, default=None)


def mark_used(path: Path) -> None:
    """Remember that a model is used now."""
    now = time.time_ns()
    try:
        os.utime(path, ns=(now, path.lstat().st_mtime_ns), follow_symlinks=False)
    except OSError:  # a cache that others own
        return


def link(target: Path, name: Path) -> None:
    """Have `name` point to `target`, in place of what is there."""
    part = name.with_name(f".{name.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    part.symlink_to(target.absolute())
    part.replace(name)


def remove(one: Stored) -> int:
    """Remove a model or a checkpoint, and of the hub's cache the files that it was; returns the bytes that are free.

    A drafter LoRA and a vision tower go with the last model that they belong to.
    """
    directory = one.path.parent
    freed = 0
    if one.type == SAFETENSORS:
        freed += sum(map(_remove_download, _checkpoint_files(one.path.resolve())))
        one.path.unlink()
    else:
        freed += sum(map(_remove_file, [*_parts(one.path), lora_path(one.path), mmproj_path(one.path)]))
    if not any(_in_commit(one.repo, directory)):
        freed += sum(map(_remove_file, directory.glob("*.gguf")))
        shutil.rmtree(directory)
    home = home_of(one.repo)
    if not any(path.is_dir() for path in home.iterdir()):
        shutil.rmtree(home)
    return freed


def _root() -> Path:
    return cache_dir() / "hub"


def _in(home: Path) -> Iterator[Stored]:
    if home.is_dir():
        for commit in home.iterdir():
            if commit.is_dir():
                yield from _in_commit(home.name.replace("--", "/", 1), commit)


def _in_commit(repo: str, commit: Path) -> Iterator[Stored]:
    yield from _models_in(repo, commit)
    path = commit / CHECKPOINT
    if path.is_dir():
        yield Stored(repo, SAFETENSORS, path, _sizes(_checkpoint_files(path)), path.lstat().st_atime)


def _checkpoint_files(snapshot: Path) -> list[Path]:
    from pytrimode.hub.repository import checkpoint_names  # the converter takes a while to import

    names = [str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if file.is_file()]
    return [snapshot / name for name in checkpoint_names(names)]


def _models_in(repo: str, commit: Path) -> Iterator[Stored]:
    for path in sorted(commit.iterdir()):
        if _is_model(path):
            kind = canonical(encoding_of(path.name) or without_encoding(path.name))
            yield Stored(repo, kind, path, _sizes(_parts(path)), path.lstat().st_atime)


def _is_model(path: Path) -> bool:
    """Whether it is the first file of a model of which all parts are there."""
    name, part = path.name.lower(), part_of(path.name)
    is_beside = name.startswith("mmproj") or name.endswith(("lora.gguf", "mmproj.gguf"))
    if not name.endswith(".gguf") or name.startswith(".") or is_beside or (part and part[0] != 1):
        return False
    return all(file.is_file() for file in _parts(path))


def _parts(path: Path) -> list[Path]:
    part = part_of(path.name)
    whole = path.with_name(whole_name(path.name))
    return [part_path(whole, number, part[1]) for number in range(1, part[1] + 1)] if part else [path]


def _sizes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _remove_file(path: Path) -> int:
    """Remove a file of the store, and what it links to in the hub's cache unless another link needs that."""
    if path.is_symlink():
        target = path.readlink()
        path.unlink()
        links = (link for link in path.parents[1].rglob("*.gguf") if link.is_symlink())
        return 0 if any(link.readlink() == target for link in links) else _remove_download(target)
    n_bytes = path.stat().st_size if path.is_file() else 0
    path.unlink(missing_ok=True)
    return n_bytes


def _remove_download(file: Path) -> int:
    """Remove a file of a snapshot in the hub's cache, and its blob where no other snapshot has it."""
    if not file.is_symlink():
        return 0
    snapshot = next(parent for parent in file.parents if parent.parent.name == SNAPSHOTS)
    blob = file.parent / file.readlink()
    n_bytes = blob.stat().st_size if blob.is_file() else 0
    file.unlink()
    others = (other for other in snapshot.parent.rglob("*") if other.is_symlink())
    if any((other.parent / other.readlink()).resolve() == blob.resolve() for other in others):
        n_bytes = 0
    else:
        blob.unlink(missing_ok=True)
    _remove_empty(file.parent, snapshot)
    return n_bytes


def _remove_empty(directory: Path, snapshot: Path) -> None:
    """Remove directories without a file up to the snapshot, and the model's whole directory with its last snapshot."""
    while not any(directory.iterdir()):
        directory.rmdir()
        if directory == snapshot:
            if not any(snapshot.parent.iterdir()):
                shutil.rmtree(snapshot.parents[1])
            return
        directory = directory.parent
