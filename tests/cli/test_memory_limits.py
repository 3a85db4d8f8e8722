"""Commands with too little memory: an error in a line, not a signal, a traceback or a wait without end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_commands_say_that_memory_is_short() -> None:
    """All commands in steps of 20 MiB: `python -m tools.memory_limits`."""
    command = [sys.executable, "-m", "tools.memory_limits", "--step", "20", "--commands", "run", "quantize", "imatrix"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert run.stdout, run.stderr
    *faults, summary = [json.loads(line) for line in run.stdout.splitlines()]
    assert faults == []
    assert summary["runs"] > 4 and run.returncode == 0
