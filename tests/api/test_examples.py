"""The programs of examples/ run as they are; those of Ray in ray_examples.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXPECTED = {
    "chat_stream": "12, 31, 74, 95",
    "many_requests": "Sort these numbers: 77, 10, 48",
    "json_answer": "'units': '",
    "fill_the_middle": "return result",
    "openai_client": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("[!r]*.py")), ids=lambda path: path.stem)
def test_an_example_runs(path: Path, q8_gguf: Path) -> None:
    result = subprocess.run([sys.executable, path, q8_gguf], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert EXPECTED[path.stem] in result.stdout
    assert result.stdout.strip()
