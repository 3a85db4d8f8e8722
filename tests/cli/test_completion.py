"""What shells complete, and the manual pages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.terminal import TIMEOUT, run

from pytrimode.cli import COMMANDS

pytestmark = pytest.mark.slow


def completed(line: str) -> list[str]:
    """What click offers for the last word of a line, as bash asks for it."""
    words = line.split(" ")
    environment = {"_PYTRIMODE_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    program = Path(sys.executable).with_name("pytrimode")
    done = subprocess.run([str(program)], env=os.environ | environment, capture_output=True, text=True, timeout=TIMEOUT)
    return [entry.partition(",")[2] for entry in done.stdout.split()]


def test_commands_options_and_choices_are_completed() -> None:
    assert completed("pytrimode ser") == ["serve"]
    assert {"--mode", "--model", "--mmproj"} <= set(completed("pytrimode chat --m"))
    assert completed("pytrimode generate --reveal l") == ["leftmost"]
    assert completed("pytrimode completion f") == ["fish"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    script = run("completion", shell)
    assert script.returncode == 0 and "_PYTRIMODE_COMPLETE" in script.stdout and "pytrimode" in script.stdout
    if program := shutil.which(shell):
        checked = subprocess.run([program, "-n"], input=script.stdout, capture_output=True, text=True, timeout=TIMEOUT)
        assert checked.returncode == 0, checked.stderr


def test_bash_itself_completes() -> None:
    line = """eval "$($0 completion bash)"; COMP_WORDS=(pytrimode pl); COMP_CWORD=1
        _pytrimode_completion pytrimode; echo "${COMPREPLY[@]}" """
    program = Path(sys.executable).with_name("pytrimode")
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", line, str(program)], env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.stdout.split() == ["plan"], done.stderr


def test_manual_pages(tmp_path: Path) -> None:
    assert run("man", "-o", tmp_path / "man1").returncode == 0
    pages = {page.name for page in (tmp_path / "man1").iterdir()}
    assert pages == {"pytrimode.1", *(f"pytrimode-{name}.1" for name in COMMANDS)}
    text = (tmp_path / "man1" / "pytrimode-chat.1").read_text()
    assert ".TH" in text and r"\-\-ctx\-size" in text and "\b" not in text
    assert "\b" not in (tmp_path / "man1" / "pytrimode-bench.1").read_text()
    assert r"\fBchat\fP" in (tmp_path / "man1" / "pytrimode.1").read_text()
    if shutil.which("man"):
        shown = subprocess.run(
            ["man", "-l", str(tmp_path / "man1" / "pytrimode-plan.1")], capture_output=True, text=True
        )
        assert "--vram" in shown.stdout
