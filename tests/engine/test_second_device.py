"""Devices with a memory of their own: two processes behind ggml's RPC backend, held against the CPU."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.shared import made_once

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "tools/second_device.py"
OFFLOADS = ("all layers", "3 of 6 layers", "two devices")
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
MODES = ("ar", "self-spec", "diffusion")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the script found, by what it looked at. It exits with 1 where something is out of tolerance.

    A process of its own: devices stay registered with ggml, and the end of their servers ends who uses them.
    """

    def run(directory: Path) -> None:
        command = [sys.executable, SCRIPT, "--rpc", "--prompts", "20", "--max-tokens", "24"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        (directory / "table").write_text(result.stdout)

    table = (made_once(tmp_path_factory, "second-device", run) / "table").read_text()
    return dict(re.findall(r"^\| (.+?) \| (.+?) \| .*\|$", table, re.MULTILINE))


@pytest.mark.parametrize("offload", OFFLOADS)
def test_logits_and_answers_are_those_of_the_cpu(rows: dict[str, str], offload: str) -> None:
    for cache in CACHE_TYPES:
        errors = [
            float(x) for x in re.findall(r"(?:causal|block|draft) (\S+?),? ", rows[f"logits, {offload}, cache {cache}"])
        ]
        assert len(errors) == 3 and max(errors) <= 1e-3
    for mode in MODES:
        same, asked = re.findall(r"(\d+) of (\d+) equal", rows[f"greedy {mode}, {offload}"])[0]
        assert asked == "20" and int(same) >= 19


def test_self_spec_is_ar_on_the_device(rows: dict[str, str]) -> None:
    """But for near-ties: kernels change with the number of rows."""
    same, asked, ties = map(int, re.findall(r"\d+", rows["self-spec = ar on the device"]))
    assert asked == 20 and same >= 19 and same + ties == asked


def test_memory_is_as_planned(rows: dict[str, str]) -> None:
    for offload in OFFLOADS:
        planned, allocated = re.findall(r"[\d.]+(?= MiB|$)", rows[f"kv_cache, {offload}"])
        assert planned == allocated
    planned, allocated = re.findall(r"[\d.]+(?= MiB|$)", rows["compute, all layers"])
    assert planned == allocated


def test_a_few_bytes_come_back_for_a_row(rows: dict[str, str]) -> None:
    down = {
        (mode, t): int(re.findall(r"(\d+) out", rows[f"bytes per row, {mode}, temperature {t}"])[0])
        for mode in MODES
        for t in (0.0, 0.8)
    }
    assert all(0 < down[mode, 0.0] <= 24 for mode in MODES)
    assert all(0 < down[mode, 0.8] <= 2 * 1048 for mode in MODES)
