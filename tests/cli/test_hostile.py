"""Every command on a sample of hostile files: no crash, hang, traceback, nothing accepted, nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_commands_refuse_hostile_files() -> None:
    """All cases: `python -m tools.hostile_files`."""
    command = [sys.executable, "-m", "tests.support.hostile_run", "--sample", "60", "--seed", "1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert run.stdout, run.stderr
    *faults, summary = [json.loads(line) for line in run.stdout.splitlines()]
    assert faults == []
    assert summary["runs"] == 61 * 6 and run.returncode == 0
