"""Mapped files that are cut while they are in use: an error with the file's name, not a signal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.synthetic import make_checkpoint

from pytrimode.convert import ConversionError, convert
from pytrimode.gguf.mapped_file import MappedFile

CUT_MODEL = """
import os, sys
from pytrimode import TriMode
model = TriMode(sys.argv[1], n_ctx=256, n_threads=1, repack=False)
model.create_completion("Hello", max_tokens=2)
print("answered", flush=True)
os.truncate(sys.argv[1], 1 << 16)
model.create_completion("And now", max_tokens=8)
"""
CUT_BYTES = """
import mmap, os, sys
from pytrimode import _native
with open(sys.argv[1], "r+b") as file:
    data = mmap.mmap(file.fileno(), 0)
    file.truncate(0)
data[len(data) // 2]
"""
RAISED = """
import os, signal
from pytrimode import _native
os.kill(os.getpid(), signal.SIGBUS)
"""
OWN = (
    """
import faulthandler, mmap, os, sys
faulthandler.enable()
"""
    + CUT_BYTES
)


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_model_that_is_cut_under_a_process_is_named(q8_gguf: Path, tmp_path: Path) -> None:
    model = Path(shutil.copyfile(q8_gguf, tmp_path / "model.gguf"))
    ended = run(CUT_MODEL, model)
    assert ended.stdout == "answered\n"
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"error: {model}: it was cut or cannot be read any more")


def test_the_page_that_is_gone_may_be_in_any_mapped_file(tmp_path: Path) -> None:
    (tmp_path / "a b\x1bc").write_bytes(bytes(1 << 20))
    ended = run(CUT_BYTES, tmp_path / "a b\x1bc")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert f"error: {tmp_path}/a b?c: it was cut" in ended.stderr


def test_other_reasons_for_the_signal_stay_what_they_are(tmp_path: Path) -> None:
    assert run(RAISED).returncode < 0
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    own = run(OWN, tmp_path / "file")
    assert own.returncode < 0 and "Fatal Python error: Bus error" in own.stderr


def test_a_source_that_was_cut_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    file = MappedFile(tmp_path / "file")
    assert len(file.read(100, 1 << 20)) == (1 << 20) - 100
    os.truncate(tmp_path / "file", 5000)
    with pytest.raises(ConversionError, match=rf"{tmp_path}/file: it was cut to 5000 bytes"):
        file.read(0, 1 << 20)
    file.read(0, 5000).release()
    file.close()


@pytest.mark.slow
def test_a_conversion_of_a_file_that_is_cut_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", lora_rank=2)
    read, reads = MappedFile.read, 0

    def cut_later(self: MappedFile, start: int, end: int) -> memoryview:
        nonlocal reads
        reads += 1
        if reads == 5:
            os.truncate(self.path, self.path.stat().st_size // 4)
        return read(self, start, end)

    monkeypatch.setattr(MappedFile, "read", cut_later)
    with pytest.raises(ConversionError, match=r"model.safetensors: it was cut to \d+ bytes"):
        convert(checkpoint, tmp_path / "out.gguf", "q8_0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
