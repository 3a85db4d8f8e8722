"""What an import brings along: the engine comes without converter, planner, quantizer, server and command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABOVE_THE_API = ("convert", "quantize", "plan", "bench", "checks", "conversation", "server", "cli")


def modules_after(statement: str) -> set[str]:
    """The modules that a new process holds after the statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(run.stdout.splitlines()[-1].split())


def rooms(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if name.startswith("pytrimode.")}


def test_importing_the_api_loads_nothing_above_it() -> None:
    found = modules_after("import pytrimode")
    assert {"trimode", "gguf", "options"} <= rooms(found)
    assert rooms(found).isdisjoint(ABOVE_THE_API)


@pytest.mark.parametrize("package", ["numpy", "jinja2", "click", "rich", "pydantic", "gguf", "safetensors", "torch"])
def test_importing_the_api_leaves_packages_for_those_who_need_them(package: str) -> None:
    assert package not in modules_after("import pytrimode")


def test_importing_the_converter_loads_neither_planner_nor_quantizer() -> None:
    found = rooms(modules_after("import pytrimode.convert"))
    assert "convert" in found
    assert found.isdisjoint({"quantize", "plan", "bench", "server", "cli"})


def test_the_help_of_the_command_line_loads_no_command() -> None:
    statement = "from pytrimode.cli import run\nrun(['--help'])"
    found = {name for name in modules_after(statement) if name.startswith("pytrimode.cli.")}
    assert found == set()


def test_every_benchmark_can_be_imported() -> None:
    names = sorted(f"benchmarks.{path.stem}" for path in (ROOT / "benchmarks").glob("[!_]*.py"))
    assert len(names) > 20
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
