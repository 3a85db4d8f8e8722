"""The suite for cards, on a device without one: a process behind ggml's RPC backend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SUITE = Path(__file__).resolve().parents[2] / "tools/gpu_suite"


def run(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SUITE, "--out", out, "--device", "RPC", "--minutes", "6", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All parts, with results.json as `results` and the table as `table`."""
    out = tmp_path_factory.mktemp("suite")
    done = run(out)
    log = (out / "log.txt").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    return {"results": json.loads((out / "results.json").read_text()), "table": (out / "table.md").read_text()}


def test_every_job_is_done(suite: dict[str, Any]) -> None:
    jobs = suite["results"]["jobs"]
    assert {job["status"] for job in jobs} == {"done"}
    assert {job["part"] for job in jobs} == {"facts", "correctness", "passes", "throughput", "memory"}
    recorded = {row["job"] for row in suite["results"]["rows"] + suite["results"]["facts"]}
    assert recorded >= {job["job"] for job in jobs}


def test_text_is_that_of_ar_with_and_without_exact_rows(suite: dict[str, Any]) -> None:
    rows = [row for row in suite["results"]["rows"] if row["what"] == "self-spec = ar"]
    assert {(row["exact_rows"], row["block"]) for row in rows} == {(0, 4), (0, 8), (0, 16), (0, 32), (8, 4), (8, 8)}
    assert all(row["equal"] == row["n"] for row in rows)  # an RPC device has the CPU's kernels


def test_passes_have_the_rows_that_were_asked_for(suite: dict[str, Any]) -> None:
    for what in ("pass", "llama_decode"):
        rows = [row for row in suite["results"]["rows"] if row["what"] == what]
        assert rows and {row["rows"] for row in rows} == {1, 2, 8, 9}
        assert all(0 < row["ms_low"] <= row["ms"] <= row["ms_high"] for row in rows)


def test_the_table_names_the_device_and_every_series(suite: dict[str, Any]) -> None:
    for text in ("RPC0", "llama_decode", "plain stores", "LoRA", "Greedy self-spec = greedy ar", "Prefill", "Memory"):
        assert text in suite["table"]


def test_jobs_are_chosen_by_name(tmp_path: Path) -> None:
    assert run(tmp_path, "--jobs", "passes.operations").returncode == 0
    jobs = json.loads((tmp_path / "results.json").read_text())["jobs"]
    assert [job["job"].split()[0] for job in jobs] == ["main.facts", "passes.operations"]


def test_what_has_run_is_kept_when_time_is_up(tmp_path: Path) -> None:
    run(tmp_path, "--only", "memory", "--minutes", "0")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["facts"] and {job["status"] for job in results["jobs"]} == {"done", "not run: no time"}
    assert "## Jobs" in (tmp_path / "table.md").read_text()


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    command = [sys.executable, SUITE, "--out", tmp_path, "--device", "CUDA7", "--minutes", "0.2", "--only", "memory"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "ggml finds CPU" in done.stderr
