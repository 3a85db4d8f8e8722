"""Fixtures of all tests: the shipped checkpoint, converted once per session, and loaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.serving import Served, loader, served
from support.shared import made_once
from support.synthetic import make_checkpoint

from pytrimode import TriMode
from pytrimode.convert import convert
from pytrimode.files.shipped_model import shipped_checkpoint

# A shell that starts the tests in the background has them ignore Ctrl-C, which some of them send.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes depends on what else the machine does.
settings.register_profile("any time", deadline=None)
settings.load_profile("any time")

# What a test measures of a model is nothing for the next one to begin with; processes that tests start have it too.
os.environ["PYTRIMODE_TUNING_CACHE"] = "0"

TEST_CONTEXT = 1024
TEST_THREADS = 1
"""A model this small gains nothing from a second thread, and on a busy machine threads wait for each other."""


@pytest.fixture(scope="session")
def checkpoint_dir() -> Path:
    """models/trimode-tiny, or what $PYTRIMODE_MODEL_DIR names."""
    return shipped_checkpoint()


@pytest.fixture(scope="session")
def tiny_gguf(checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of the shipped checkpoint in a type ("f32", "f16", "q8_0", ...), its drafter LoRA beside it."""

    def path(outtype: str) -> Path:
        name = f"tiny-{outtype}.gguf"
        return made_once(tmp_path_factory, name, lambda made: convert(checkpoint_dir, made / name, outtype)) / name

    return path


@pytest.fixture(scope="session")
def random_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights: emits any token there is, parts of UTF-8 characters too, and hardly ever ends."""

    def make(directory: Path) -> None:
        convert(make_checkpoint(directory / "random", hidden=256), directory / "random.gguf", "f16")

    return made_once(tmp_path_factory, "random", make) / "random.gguf"


@pytest.fixture(scope="session")
def q8_gguf(tiny_gguf: Callable[[str], Path]) -> Path:
    return tiny_gguf("q8_0")


@pytest.fixture(scope="session")
def q4_gguf(tiny_gguf: Callable[[str], Path]) -> Path:
    return tiny_gguf("q4_0")


@pytest.fixture(scope="session")
def unseen(checkpoint_dir: Path) -> str:
    """What the shipped model was trained to write, none of which it has seen, nor the calibration text has."""
    heldout = json.loads((checkpoint_dir / "heldout.json").read_text())
    return "\n".join(item["answer"] for item in heldout)


@pytest.fixture(scope="session")
def f16_gguf(tiny_gguf: Callable[[str], Path]) -> Path:
    return tiny_gguf("f16")


@pytest.fixture(scope="session")
def f32_gguf(tiny_gguf: Callable[[str], Path]) -> Path:
    return tiny_gguf("f32")


@pytest.fixture(scope="session")
def model(q8_gguf: Path) -> Iterator[TriMode]:
    """The Q8_0 model, shared: a test must leave no request running."""
    with TriMode(q8_gguf, n_ctx=TEST_CONTEXT, n_threads=TEST_THREADS) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def server(q8_gguf: Path) -> Iterator[Served]:
    """A server of the Q8_0 model with the context of `model`: a test must leave no request running."""
    with served(loader(q8_gguf, TEST_CONTEXT)) as running:
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, where the user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)
