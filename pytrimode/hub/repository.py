"""What a repository on the hub holds: GGUF models by type, what belongs to them, a checkpoint."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

from pytrimode.convert.checkpoint.checkpoint import CONFIG, LORA_DIR, TOKENIZER, WEIGHTS, WEIGHTS_INDEX
from pytrimode.convert.checkpoint.model_card import MODEL_CARD
from pytrimode.gguf.file_names import encoding_of, part_of, without_encoding
from pytrimode.gguf.hub_layout import PREFIX, snapshot_of
from pytrimode.hub.errors import hub_errors
from pytrimode.hub.reference import canonical

SHARD = "model-*-of-*.safetensors"


@dataclass(frozen=True)
class Repository:
    """A repository at one commit.

    Attributes:
        repo: "OWNER/NAME".
        commit: its hash.
        files: bytes by name.
        local: its snapshot in the hub's cache, where the hub could not be asked.
    """

    repo: str
    commit: str
    files: dict[str, int]
    local: Path | None = None

    def gguf_models(self) -> dict[str, list[str]]:
        """Return the files of each GGUF model by its type, in order; by its name where that tells no type."""
        found: dict[str, list[str]] = {}
        for name in sorted(self.files):
            file = PurePosixPath(name).name
            if file.endswith(".gguf") and not _is_adapter(file) and not _is_mmproj(file):
                kind = canonical(encoding_of(file) or without_encoding(file))
                part = part_of(file)
                if part is None or part[0] == 1:
                    found.setdefault(kind, [name])
                elif kind in found and len(found[kind]) == part[0] - 1:
                    found[kind].append(name)
        return found

    def drafter_of(self, model: str) -> str | None:
        """Return the drafter LoRA that belongs to a GGUF model, None without one."""
        return self._beside(model, [name for name in self.files if _is_adapter(name) and "drafter" in name.lower()])

    def mmproj_of(self, model: str) -> str | None:
        """Return the vision tower that belongs to a GGUF model, None without one."""
        return self._beside(model, [name for name in self.files if _is_mmproj(name)])

    def _beside(self, model: str, candidates: list[str]) -> str | None:
        """Return the one that shares most of the model's name; of several, the largest."""
        file = PurePosixPath(model).name

        def likeness(name: str) -> tuple[int, int]:
            other = PurePosixPath(name).name.removeprefix("mmproj-")
            same = takewhile(lambda pair: pair[0] == pair[1], zip(file.lower(), other.lower(), strict=False))
            return len(list(same)), self.files[name]

        return max(candidates, key=likeness, default=None)

    def checkpoint_files(self) -> list[str]:
        """Return what the converter reads of a checkpoint; nothing where there is none."""
        names = checkpoint_names(self.files)
        return names if CONFIG in names and any(name.endswith(".safetensors") for name in names) else []

    def n_bytes(self, names: Collection[str]) -> int:
        """Bytes of some files."""
        return sum(self.files[name] for name in names)


def checkpoint_names(names: Collection[str]) -> list[str]:
    """Return those of the names that the converter reads."""
    whole = WEIGHTS in names

    def is_wanted(name: str) -> bool:
        path = PurePosixPath(name)
        if str(path.parent) == LORA_DIR:
            return path.suffix in (".json", ".safetensors")
        if str(path.parent) != ".":
            return False
        if path.match(SHARD) or name == WEIGHTS_INDEX:
            return not whole
        return name in (WEIGHTS, MODEL_CARD) or path.suffix in (".json", ".jinja")

    return sorted(filter(is_wanted, names))


def read_repository(repo: str) -> Repository:
    """Ask the hub. Raises HubError."""
    with hub_errors(repo):
        from huggingface_hub import HfApi

        info = HfApi(endpoint=_endpoint()).model_info(repo, files_metadata=True)
    files = {file.rfilename: file.size or 0 for file in info.siblings or []}
    return Repository(repo, info.sha or "main", files)


def local_repository(repo: str) -> Repository | None:
    """Return what the hub's cache holds of a repository, None for nothing that could be run."""
    home = hub_cache() / f"{PREFIX}{repo.replace('/', '--')}"
    snapshot = snapshot_of(home)
    if snapshot == home or not snapshot.is_dir():
        return None
    files = {str(file.relative_to(snapshot)): file.stat().st_size for file in snapshot.rglob("*") if file.is_file()}
    found = Repository(repo, snapshot.name, files, snapshot)
    return found if found.gguf_models() or (found.checkpoint_files() and TOKENIZER in files) else None


def download(repository: Repository, names: Collection[str], *, progress: bool) -> Path:
    """Have files of a repository in the hub's cache; returns their directory. Files that are there are kept.

    A connection that breaks is resumed. Raises HubError.
    """
    if repository.local:
        return repository.local
    with hub_errors(repository.repo), nullcontext() if progress else _no_bars():
        from huggingface_hub import snapshot_download

        return Path(
            snapshot_download(
                repository.repo,
                revision=repository.commit,
                allow_patterns=[glob.escape(name) for name in names],
                endpoint=_endpoint(),
            )
        )


def hub_cache() -> Path:
    """Return the directory of huggingface_hub's cache, of other programs too."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


@contextmanager
def _no_bars() -> Iterator[None]:
    from huggingface_hub import utils

    if utils.are_progress_bars_disabled():  # type: ignore[attr-defined, unused-ignore]
        yield
        return
    utils.disable_progress_bars()  # type: ignore[attr-defined, unused-ignore]
    try:
        yield
    finally:
        utils.enable_progress_bars()  # type: ignore[attr-defined, unused-ignore]


def _is_adapter(name: str) -> bool:
    return name.lower().endswith("lora.gguf")


def _is_mmproj(name: str) -> bool:
    return name.endswith(".gguf") and "mmproj" in PurePosixPath(name).name.lower()
