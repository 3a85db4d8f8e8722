"""What is installed, what was found on this machine, whether its devices compute rightly, and what to do if not.

Imports nothing of the engine before it has looked whether that can be imported.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytrimode._native import Backend, Device
    from pytrimode.checks.self_test import RowKindResult

LIBRARY = "llama-cpp-python"
GPU_DOC = "docs/gpu.md"
GPU_TYPES = ("gpu", "igpu")
WITHOUT_DEVICES = ("CPU", "BLAS", "RPC")
"""Backends that look for no GPU in this machine."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: True and False for a check, None for what is only told.
        found: in words.
        advice: what to do, where something is to be done.
        data: for programs.
    """

    name: str
    ok: bool | None
    found: str
    advice: str = ""
    data: Any = None


def diagnose(notice: Callable[[str], None] = lambda text: None) -> Iterator[Finding]:
    """Look at everything, the slow self-test last. `notice` is told when the shipped model is converted."""
    yield _pytrimode()
    if pinned_version(_requirements()):  # a wheel has its own llama.cpp, and requires none
        library = library_finding(_installed(LIBRARY), pinned_version(_requirements()))
        yield library
        if library.ok is False:
            return
    engine = _engine()
    yield engine
    if not engine.ok:
        return
    yield from _machine()
    yield from _self_tests(notice)


def pinned_version(requirements: list[str] | None) -> str | None:
    """Return the version of llama-cpp-python that pytrimode requires, None where it does not say."""
    for requirement in requirements or []:
        match = re.match(rf"{LIBRARY}\s*==\s*([\w.+!-]+)", requirement)
        if match:
            return match.group(1)
    return None


def library_finding(installed: str | None, pinned: str | None) -> Finding:
    """Whether the installed version is the one that pytrimode is compiled against."""
    data = {"installed": installed, "pinned": pinned}
    if installed is None:
        return Finding(LIBRARY, False, "not installed", f"pip install {LIBRARY}=={pinned}", data)
    if pinned not in (None, installed):
        advice = f"another package has changed it: pip install {LIBRARY}=={pinned}"
        return Finding(LIBRARY, False, f"{installed}, pytrimode needs {pinned}", advice, data)
    return Finding(LIBRARY, True, f"{installed}, the pinned version", data=data)


def import_finding(problem: str) -> Finding:
    """Why the engine cannot be imported, from the text of the error."""
    missing = re.match(r"(lib\S+): cannot open shared object file", problem)
    if missing:
        advice = f"install what has {missing.group(1)}, or name its folder in LD_LIBRARY_PATH; {GPU_DOC}"
    else:
        advice = "build pytrimode again, in its clone: pip install --force-reinstall --no-deps ."
    return Finding("engine", False, problem, advice)


def gpu_finding(backends: list[Backend], devices: list[Device], hardware: dict[str, str]) -> Finding:
    """Whether the GPUs of this machine are used. `hardware`: maker and how it was noticed."""
    gpus = [device for device in devices if device["type"] in GPU_TYPES]
    if gpus:
        names = ", ".join(device["name"] for device in gpus)
        return Finding("GPU", True, f"{names}: -ngl all puts a model on it, -ngl auto what fits")
    if not hardware:
        return Finding("GPU", None, "none found; models run on the CPU")
    seen = ", ".join(f"{maker} ({how})" for maker, how in hardware.items())
    built = [backend["name"] for backend in backends if backend["name"] not in WITHOUT_DEVICES]
    if built:
        advice = f"libllama has {', '.join(built)}, which finds no device: check the driver (nvidia-smi, vulkaninfo)"
    else:
        advice = f"libllama has no GPU backend: install it with one, {GPU_DOC}"
    return Finding("GPU", None, f"{seen}, not used", advice)


def self_test_finding(device: str, results: list[RowKindResult]) -> Finding:
    """In words, what `compare` found for a device."""
    text = ", ".join(f"{r.kind} {r.error:.1e} ({r.same_tokens}/{r.rows} tokens the same)" for r in results)
    ok = all(result.ok for result in results)
    advice = (
        "" if ok else f"do not use {device}: -ngl 0, and report it with this output; try another backend, {GPU_DOC}"
    )
    data = [{"kind": r.kind, "error": r.error, "same_tokens": r.same_tokens, "rows": r.rows} for r in results]
    return Finding(f"self-test {device}", ok, f"relative difference {text}", advice, data)


def gpu_hardware() -> dict[str, str]:
    """GPUs that can be seen without a backend: maker, and what shows it."""
    found = {}
    if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        found["NVIDIA"] = "its driver is installed"
    if Path("/dev/kfd").exists():
        found["AMD"] = "/dev/kfd"
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        found["Apple"] = "Apple silicon"
    return found


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _pytrimode() -> Finding:
    found = f"{_installed('pytrimode')}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    data = {"version": _installed("pytrimode"), "python": platform.python_version(), "platform": platform.platform()}
    return Finding("pytrimode", None, found, data=data)


def _requirements() -> list[str] | None:
    try:
        return requires("pytrimode")
    except PackageNotFoundError:
        return None


def _engine() -> Finding:
    import pytrimode

    if pytrimode.import_problem:
        return import_finding(pytrimode.import_problem)
    from pytrimode import _native

    library = f"{LIBRARY} {_native.LLAMA_CPP_PYTHON_VERSION}"
    how = f"with the llama.cpp of {library} in its wheel" if _native.OWN_LLAMA_CPP else f"compiled against {library}"
    return Finding("engine", True, f"{how}, loads")


def _machine() -> Iterator[Finding]:
    from pytrimode import _native
    from pytrimode.gguf.sizes import memory_text

    backends, devices = _native.backends(), _native.devices()
    names = ", ".join(backend["name"] for backend in backends)
    yield Finding("backends", any(b["name"] == "CPU" for b in backends), names, data=backends)
    features = next((backend["features"] for backend in backends if backend["name"] == "CPU"), {})
    yield Finding("CPU features", None, " ".join(k for k, v in features.items() if v != "0"), data=features)
    yield _products()
    yield _threads()
    yield _pillow()
    for device in devices:
        memory = f"{memory_text(device['memory_free'])} of {memory_text(device['memory_total'])} free"
        yield Finding(f"device {device['name']}", None, f"{device['description']} ({memory})", data=device)
    yield gpu_finding(backends, devices, gpu_hardware())


def _products() -> Finding:
    from pytrimode import _native

    sets = _native.product_kernels()
    try:
        used = _native.product_kernels_in_use()
    except ValueError as error:
        return Finding("CPU products", False, str(error), "unset the variable, or name one that is available")
    found = f"{used} (available: {', '.join(sets)})" if used else "llama.cpp's own"
    return Finding("CPU products", None, found, data={"used": used, "available": sets})


def _pillow() -> Finding:
    """Whether images can be read."""
    found = _installed("pillow")
    text = f"Pillow {found}: images can be read" if found else "no Pillow: images cannot be read"
    advice = "" if found else 'for a model with a vision tower: pip install "pytrimode[vision]"'
    return Finding("images", None, text, advice, {"pillow": found})


def _threads() -> Finding:
    from pytrimode.threads import thread_default

    found = thread_default()
    return Finding("threads", None, str(found), "", asdict(found))


def _self_tests(notice: Callable[[str], None]) -> Iterator[Finding]:
    from pytrimode import _native
    from pytrimode.checks.self_test import SELF_TEST_TYPE, compare, device_logits, patterns_differ
    from pytrimode.files.shipped_model import shipped_gguf

    try:
        gguf = shipped_gguf(notice, SELF_TEST_TYPE)
    except (OSError, RuntimeError) as error:
        yield Finding("self-test", False, str(error), "without the shipped checkpoint nothing can be tested")
        return
    reference = device_logits(gguf, None)
    if not patterns_differ(reference):
        advice = "the engine is broken: report it with this output"
        yield Finding("self-test CPU", False, "causal, block and draft rows do not differ", advice)
        return
    yield self_test_finding("CPU", compare(device_logits(gguf, None, flash_attn=False), reference))
    for device in _native.devices():
        if device["type"] not in GPU_TYPES:
            continue
        try:
            found = device_logits(gguf, device["name"])
        except RuntimeError as error:
            yield Finding(f"self-test {device['name']}", False, str(error), f"run with -ngl 0; {GPU_DOC}")
            continue
        yield self_test_finding(device["name"], compare(reference, found))
