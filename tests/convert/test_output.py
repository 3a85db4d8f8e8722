"""The output appears whole or not at all: kills, full disks, existing files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.convert_helpers import COMMAND, files_in, read_tensors, run_convert
from support.synthetic import make_checkpoint

from pytrimode.convert import ConversionError, convert
from pytrimode.gguf.output import OutputFile, output_directory

# Converts, and stands still in the middle of the model's tensors until it is killed.
STALL = """
import sys, time
import pytrimode.gguf.output as output
from pytrimode.convert import cli, conversion
kind = sys.argv.pop()
if kind == "named":
    output.os.O_TMPFILE = None
def stall(written, total):
    if written > total // 2:
        print("half", flush=True)
        # In short pieces: a signal just before a sleep is seen after it.
        for _ in range(600):
            time.sleep(0.1)
convert, restore = cli.convert, cli.restore
cli.convert = lambda *a, **k: convert(*a, **{**k, "progress": stall})
cli.restore = lambda *a, **k: restore(*a, **{**k, "progress": stall})
cli.main(standalone_mode=True)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("output") / "model", lora_rank=2)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out/model.gguf"


def kill_half_way(model: Path, out: Path, number: int, kind: str, *options: str) -> int:
    """Send a signal to a conversion in mid-write; return its exit code."""
    arguments = [sys.executable, "-c", STALL, str(model), str(out), *options, kind]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(number)
        return process.wait(20)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nameless", "named"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_conversion_leaves_nothing_behind(model: Path, out: Path, number: int, kind: str) -> None:
    assert kill_half_way(model, out, number, kind) == 128 + number
    assert files_in(out.parent) == set()


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs O_TMPFILE")
def test_killed_conversion_leaves_nothing_behind(model: Path, out: Path) -> None:
    if not supports_nameless_files(out.parent):
        pytest.skip("this file system has no O_TMPFILE")
    assert kill_half_way(model, out, signal.SIGKILL, "nameless") == -signal.SIGKILL
    assert files_in(out.parent) == set()


def test_remains_of_a_killed_conversion_go_with_the_next(model: Path, out: Path) -> None:
    """Where files need names: SIGKILL leaves a part, which the next conversion removes."""
    assert kill_half_way(model, out, signal.SIGKILL, "named") == -signal.SIGKILL
    assert any(".part-" in name for name in files_in(out.parent))
    convert(model, out)
    assert files_in(out.parent) == {"model.gguf", "model-drafter-lora.gguf"}


def test_parts_of_a_running_conversion_are_left_alone(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", None, raising=False)
    with OutputFile(out, force=False) as first:
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with OutputFile(out, force=False):
            assert len(files_in(out.parent)) == 2
        first.file.write(b"x")
        first.publish()
    assert files_in(out.parent) == {"model.gguf"}


def test_killed_conversion_with_force_keeps_the_old_file(model: Path, out: Path) -> None:
    out.write_bytes(b"old")
    assert kill_half_way(model, out, signal.SIGTERM, "nameless", "--force") == 128 + signal.SIGTERM
    assert out.read_bytes() == b"old"
    assert files_in(out.parent) == {"model.gguf"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_way_back_leaves_nothing_behind(model: Path, out: Path, number: int) -> None:
    file = convert(model, out, "q8_0").path
    before = files_in(out.parent)
    assert kill_half_way(file, out.with_name("restored"), number, "directory", "--to-safetensors") == 128 + number
    assert files_in(out.parent) == before


def test_remains_of_a_killed_way_back_go_with_the_next(model: Path, out: Path) -> None:
    file = convert(model, out, "q8_0").path
    before = files_in(out.parent)
    restored = out.with_name("restored")
    assert kill_half_way(file, restored, signal.SIGKILL, "directory", "--to-safetensors") == -signal.SIGKILL
    assert not restored.exists()
    done = run_convert("--to-safetensors", file, restored)
    assert done.returncode == 0, done.stderr
    assert files_in(out.parent) == before | {"restored"}


def test_a_running_way_back_is_left_alone(out: Path) -> None:
    """Two runs to one directory: the first to finish has it, the other says so and leaves nothing."""
    target = out.with_name("restored")
    other = target.with_name("restored.part-1")
    other.mkdir()
    held = os.open(other, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(ConversionError, match="restored: cannot be written"), output_directory(target) as part:
        (part / "config.json").write_text("{}")
        shutil.copytree(part, target)
    os.close(held)
    assert files_in(out.parent) == {"restored", "restored.part-1"}


@pytest.mark.parametrize("name", ["model.gguf", "model-drafter-lora.gguf"])
def test_existing_output_is_untouched_without_force(model: Path, out: Path, name: str) -> None:
    (out.parent / name).write_bytes(b"precious")
    done = run_convert(model, out)
    assert done.returncode == 1
    assert f"{out.parent / name}: exists already: give --force" in done.stderr
    assert (out.parent / name).read_bytes() == b"precious"
    assert files_in(out.parent) == {name}


@pytest.mark.parametrize("named", [False, True])
def test_force_replaces_both_files(model: Path, out: Path, named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if named:
        monkeypatch.setattr(os, "O_TMPFILE", None, raising=False)
    for name in ("model.gguf", "model-drafter-lora.gguf"):
        (out.parent / name).write_bytes(b"old")
    result = convert(model, out, force=True)
    assert result.lora_path is not None
    assert len(read_tensors(result.path)) == 21
    assert len(read_tensors(result.lora_path)) == 4
    assert files_in(out.parent) == {"model.gguf", "model-drafter-lora.gguf"}


@pytest.mark.parametrize("named", [False, True])
def test_file_that_appears_during_the_conversion_is_kept(
    model: Path, out: Path, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named:
        monkeypatch.setattr(os, "O_TMPFILE", None, raising=False)
    with pytest.raises(ConversionError, match="appeared during the conversion"):
        convert(model, out, lora=False, progress=lambda *_: out.write_bytes(b"precious") and None)
    assert out.read_bytes() == b"precious"
    assert files_in(out.parent) == {"model.gguf"}


def test_no_lora_leaves_it_out_and_warns_of_an_old_one(model: Path, out: Path) -> None:
    (out.parent / "model-drafter-lora.gguf").write_bytes(b"old")
    done = run_convert(model, out, "--no-lora")
    assert done.returncode == 0
    assert "model-drafter-lora.gguf is from an earlier conversion" in done.stderr
    assert (out.parent / "model-drafter-lora.gguf").read_bytes() == b"old"


def test_output_is_readable_like_any_new_file(model: Path, out: Path) -> None:
    convert(model, out)
    (out.parent / "other").touch()
    assert out.stat().st_mode == (out.parent / "other").stat().st_mode


def test_disk_that_is_too_small_is_noticed_before_writing(small_disk: Path, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model", hidden=256, ffn=1024)
    done = run_convert(tmp_path / "model", small_disk / "model.gguf")
    assert done.returncode == 1
    assert "disk full: 2." in done.stderr
    assert files_in(small_disk) == set()


def test_disk_that_fills_up_leaves_nothing_behind(model: Path, small_disk: Path) -> None:
    def fill(written: int, total: int) -> None:
        with contextlib.suppress(OSError), (small_disk / "other").open("ab") as other:
            other.write(bytes(200_000))

    with pytest.raises(ConversionError, match=r"model\.gguf: cannot be written: No space left on device"):
        convert(model, small_disk / "model.gguf", progress=fill)
    assert files_in(small_disk) == {"other"}


def test_quick_ctrl_c(model: Path, out: Path) -> None:
    """While the modules are still being imported: exit code 130 or the signal itself, and nothing left.

    Not before the first of them: Python itself swallows a KeyboardInterrupt while it reads .pth files.
    """
    python, *arguments = COMMAND
    command = [python, "-X", "importtime", *arguments, str(model), str(out), "--f32"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("| numpy" in line or " click" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        process.wait(20)
    assert process.returncode != 0
    assert files_in(out.parent) == set()


def supports_nameless_files(directory: Path) -> bool:
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_RDWR))
    except OSError:
        return False
    return True


def test_checkpoint_is_not_touched(model: Path, out: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    convert(copy, out)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
