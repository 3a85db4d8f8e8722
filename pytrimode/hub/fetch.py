"""From the hub into the store: GGUF files where the repository has them, else its checkpoint, converted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pytrimode.convert.checkpoint.checkpoint import CONFIG, LORA_DIR, read_config
from pytrimode.convert.cli_run import byte_progress
from pytrimode.convert.conversion import convert
from pytrimode.convert.lora import ADAPTER_CONFIG
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import lora_path, mmproj_path
from pytrimode.gguf.sizes import size_text
from pytrimode.hub.choice import Choice, fitting_file, fitting_type, known_type
from pytrimode.hub.errors import HubError, UnreachableError, check_installed
from pytrimode.hub.reference import Reference
from pytrimode.hub.repository import Repository, download, hub_cache, local_repository, read_repository
from pytrimode.hub.store import CHECKPOINT, find, home_of, link
from pytrimode.plan.model_shape import model_shape
from pytrimode.plan.weights import lora_bytes, weight_bytes

Notice = Callable[[str], None]


def fetch(reference: Reference, *, notice: Notice, progress: bool, renew: bool = False) -> Path:
    """Download a model, convert it where it is a checkpoint, and return its file in the store.

    Processes that fetch from one repository take turns. `renew`: ask the hub although there is something here; files
    that have not changed there are kept. Raises ImportError without huggingface_hub, HubError, ConversionError.
    """
    check_installed()
    home = home_of(reference.repo)
    with _turn(home, lambda: notice(f"{reference.repo}: another process is fetching it: waiting")):
        here = find(reference)
        if here and not renew:
            return here.path
        if here:
            reference = Reference(reference.repo, here.type)  # the same type of a newer commit
        repository = _repository(reference, notice)
        if here := find(reference, repository.commit):
            return here.path
        directory = home / repository.commit
        directory.mkdir(exist_ok=True)
        try:
            return _fetch(reference, repository, directory, notice, progress)
        finally:
            if not any(directory.iterdir()):
                directory.rmdir()


@contextmanager
def _turn(home: Path, tell: Callable[[], None]) -> Iterator[None]:
    """Wait for others that fetch into the same directory; `tell` is called if there are any."""
    from filelock import FileLock, Timeout

    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            tell()
            lock.acquire()
    except (PermissionError, FileExistsError, NotADirectoryError):
        raise HubError(f"{home}: cannot be written: set PYTRIMODE_CACHE to a directory of yours") from None
    try:
        yield
    finally:
        lock.release()


def fetch_config(reference: Reference) -> Path:
    """Return a directory with the config.json of a checkpoint on the hub, and that of its drafter LoRA: what `plan`
    needs. Raises as `fetch`.
    """
    check_installed()
    repository = _repository(reference, lambda text: None)
    if CONFIG not in repository.files:
        raise HubError(f"{reference.repo}: it has no {CONFIG} to plan for: download it, or name its GGUF file")
    return _config(repository)


def _repository(reference: Reference, notice: Notice) -> Repository:
    """Ask the hub; where it cannot be asked, take what its cache holds."""
    try:
        return read_repository(reference.repo)
    except UnreachableError as error:
        found = local_repository(reference.repo)
        if found is None:
            raise
        notice(f"{reference.repo}: taken from the hub's cache ({error})")
        return found


def _fetch(reference: Reference, repository: Repository, directory: Path, notice: Notice, progress: bool) -> Path:
    models = repository.gguf_models()
    wanted = reference.type
    if wanted in models or (models and wanted is None):
        choice = Choice(wanted, "") if wanted else fitting_file({n: repository.n_bytes(f) for n, f in models.items()})
        return _take(choice, models[choice.type], repository, directory, notice, progress)
    if repository.checkpoint_files():
        return _convert(reference, repository, directory, notice, progress)
    if models:
        raise HubError(f"{reference.repo}: type {wanted!r}: it has {', '.join(models)}")
    raise HubError(f"{reference.repo}: it holds neither GGUF files nor a checkpoint of safetensors")


# --- GGUF files ------------------------------------------------------------------------------------------------------


def _take(
    choice: Choice, names: Sequence[str], repository: Repository, directory: Path, notice: Notice, progress: bool
) -> Path:
    beside = {
        lora_path: repository.drafter_of(names[0]),
        mmproj_path: repository.mmproj_of(names[0]),
    }
    wanted = [*names, *filter(None, beside.values())]
    _check_space(repository, wanted, 0, directory)
    why = f", which {choice.reason}" if choice.reason else ""
    notice(f"{repository.repo}: downloading {choice.type}{why}: {size_text(repository.n_bytes(wanted))}")
    snapshot = download(repository, wanted, progress=progress)
    first = directory / PurePosixPath(names[0]).name
    for path_of, name in beside.items():
        if name:
            link(snapshot / name, path_of(first))
    for name in reversed(names):  # whoever finds the first finds the others too
        link(snapshot / name, directory / PurePosixPath(name).name)
    return first


# --- A checkpoint ----------------------------------------------------------------------------------------------------


def _convert(reference: Reference, repository: Repository, directory: Path, notice: Notice, progress: bool) -> Path:
    config = _config(repository)
    try:
        read_config(config)
    except ConversionError as error:
        raise HubError(f"{repository.repo}: {error}") from None
    choice = Choice(known_type(reference.type), "") if reference.type else fitting_type(config)
    names = repository.checkpoint_files()
    shape = model_shape(config)
    _check_space(repository, names, weight_bytes(shape, choice.type).total + lora_bytes(shape), directory)
    why = f", which {choice.reason}" if choice.reason else ""
    size = size_text(repository.n_bytes(names))
    notice(
        f"{repository.repo}: downloading {size}, then converting to {choice.type}{why}; "
        f"{repository.repo}:TYPE takes another"
    )
    snapshot = download(repository, names, progress=progress)
    link(snapshot, directory / CHECKPOINT)
    with byte_progress("Converting", quiet=not progress) as advance:
        result = convert(snapshot, directory, choice.type, progress=advance)
    for note in result.notes:
        notice(f"note: {note}")
    return result.path


def _config(repository: Repository) -> Path:
    """Return the directory of config.json, before anything large is downloaded."""
    names = [name for name in (CONFIG, f"{LORA_DIR}/{ADAPTER_CONFIG}") if name in repository.files]
    return download(repository, names, progress=False)


def _check_space(repository: Repository, names: Sequence[str], converted: int, directory: Path) -> None:
    """Refuse what the disk has no room for, before anything large is downloaded."""
    cache = _existing(hub_cache())
    snapshot = cache / f"models--{repository.repo.replace('/', '--')}" / "snapshots" / repository.commit
    missing = 0 if repository.local else repository.n_bytes([n for n in names if not (snapshot / n).is_file()])
    if cache.stat().st_dev == directory.stat().st_dev:
        needs = {cache: missing + converted}
    else:
        needs = {cache: missing, directory: converted}
    for path, n_bytes in needs.items():
        free = shutil.disk_usage(path).free
        if n_bytes > free:
            raise HubError(
                f"{repository.repo}: {size_text(n_bytes)} are needed, {size_text(free)} are free in {path}: make room "
                f"(pytrimode models), or set HF_HOME (downloads) and PYTRIMODE_CACHE (converted models) to directories "
                f"on another disk"
            )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
