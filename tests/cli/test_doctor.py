"""`pytrimode doctor`: what it says of this machine, and that it notices what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytrimode import _native
from pytrimode.checks.doctor import gpu_finding, import_finding, library_finding, pinned_version, self_test_finding
from pytrimode.checks.self_test import ROW_KINDS, Logits, compare, device_logits, patterns_differ
from pytrimode.cli import run
from pytrimode.files.shipped_model import DIRECTORY_VARIABLE

CPU_ONLY: list[Any] = [{"name": "CPU", "devices": 1, "features": {}}]
CPU: dict[str, Any] = {
    "name": "CPU", "description": "", "backend": "CPU", "type": "cpu", "memory_free": 1, "memory_total": 1
}  # fmt: skip


@pytest.fixture(scope="module")
def logits(q8_gguf: Path) -> Logits:
    return device_logits(q8_gguf, None)


def test_this_machine_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    found = {finding["name"]: finding for finding in report["findings"]}
    assert found["llama-cpp-python"]["data"]["pinned"] == _native.LLAMA_CPP_PYTHON_VERSION
    assert found["backends"]["data"] == _native.backends()
    assert found["device CPU"]["data"]["memory_total"] > 0
    assert [row["kind"] for row in found["self-test CPU"]["data"]] == list(ROW_KINDS)


def test_text_ends_with_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("all is well\n")
    assert "causal " in out and "block " in out and "draft " in out


def test_a_missing_checkpoint_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out and "no checkpoint is there" in out
    assert out.endswith("failed: self-test\n")


# --- Versions --------------------------------------------------------------------------------------------------------


def test_the_library_must_be_the_pinned_one() -> None:
    pinned = pinned_version(["numpy>=1.24", "llama-cpp-python==0.3.36", "click>=8"])
    assert pinned == "0.3.36"
    assert pinned_version(["llama-cpp-python>=0.3"]) is None
    assert library_finding("0.3.36", pinned).ok is True
    other = library_finding("0.3.20", pinned)
    assert other.ok is False and "pip install llama-cpp-python==0.3.36" in other.advice
    missing = library_finding(None, pinned)
    assert missing.ok is False and missing.found == "not installed"


def test_a_missing_library_of_a_backend_is_named() -> None:
    """Installing pytrimode anew would not help."""
    finding = import_finding("libcublas.so.13: cannot open shared object file: No such file or directory")
    assert finding.ok is False and "libcublas.so.13" in finding.advice and "LD_LIBRARY_PATH" in finding.advice
    assert "pip install" in import_finding("undefined symbol: ggml_set_rows").advice


WITH_ANOTHER_VERSION = """
import importlib.metadata as metadata, sys
real = metadata.version
metadata.version = lambda name: "0.3.1" if name == "llama-cpp-python" else real(name)
sys.argv = ["pytrimode", *sys.argv[1:]]
from pytrimode.cli import main
main()
"""


def test_another_version_is_explained_without_a_traceback() -> None:
    script = [sys.executable, "-c", WITH_ANOTHER_VERSION]
    result = subprocess.run([*script, "doctor"], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "0.3.1, pytrimode needs 0.3.36" in result.stdout
    assert "-> another package has changed it: pip install llama-cpp-python==0.3.36" in result.stdout
    assert result.stderr == ""
    other = subprocess.run([*script, "info"], capture_output=True, text=True, timeout=60, check=False)
    assert other.returncode == 1
    assert "ImportError: pytrimode was built for llama-cpp-python" in other.stderr


# --- GPUs ------------------------------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_used_is_pointed_out() -> None:
    nothing = gpu_finding(CPU_ONLY, [CPU], {})
    assert (nothing.ok, nothing.advice) == (None, "")
    unused = gpu_finding(CPU_ONLY, [CPU], {"NVIDIA": "its driver is installed"})
    assert "no GPU backend" in unused.advice and "docs/gpu.md" in unused.advice
    no_device = gpu_finding([*CPU_ONLY, {"name": "CUDA", "devices": 0, "features": {}}], [CPU], {"NVIDIA": "x"})
    assert "CUDA, which finds no device" in no_device.advice
    rpc_only = gpu_finding([*CPU_ONLY, {"name": "RPC", "devices": 0, "features": {}}], [CPU], {"NVIDIA": "x"})
    assert "no GPU backend" in rpc_only.advice
    used = gpu_finding(CPU_ONLY, [CPU, {**CPU, "name": "CUDA0", "type": "gpu"}], {"NVIDIA": "x"})
    assert used.ok is True and "CUDA0" in used.found


# --- The self-test ---------------------------------------------------------------------------------------------------


def test_a_device_that_computes_the_same_passes(logits: Logits, q8_gguf: Path) -> None:
    finding = self_test_finding("CPU", compare(logits, device_logits(q8_gguf, None, flash_attn=False)))
    assert finding.ok is True
    assert patterns_differ(logits)


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_one_wrong_kind_of_row_is_noticed(logits: Logits, kind: str) -> None:
    turned = {**logits, kind: np.roll(logits[kind], 1, axis=0)}
    finding = self_test_finding("GPU0", compare(logits, turned))
    assert finding.ok is False and "-ngl 0" in finding.advice
    assert [row["error"] > 0 for row in finding.data] == [name == kind for name in ROW_KINDS]


def test_a_draft_without_its_lora_a_block_that_is_causal_and_nan_are_noticed(logits: Logits) -> None:
    no_lora = {**logits, "draft": logits["block"]}
    assert not patterns_differ(no_lora)
    assert self_test_finding("GPU0", compare(logits, no_lora)).ok is False
    causal = {**logits, "block": logits["causal"][-len(logits["block"]) :]}
    assert not patterns_differ(causal)
    assert self_test_finding("GPU0", compare(logits, causal)).ok is False
    broken = {**logits, "causal": np.full_like(logits["causal"], np.nan)}
    assert self_test_finding("GPU0", compare(logits, broken)).ok is False


def test_an_unknown_device_is_named(q8_gguf: Path) -> None:
    with pytest.raises(ValueError, match="device CUDA7 is not there"):
        device_logits(q8_gguf, "CUDA7")
