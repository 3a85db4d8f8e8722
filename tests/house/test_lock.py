"""The lock of CI: a version for everything that pyproject.toml asks for, and one that it allows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[import-not-found, no-redef]

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINES = [line for line in (ROOT / ".ci/constraints.txt").read_text().splitlines() if not line.startswith("#")]
LOCK = [Requirement(line) for line in LINES]
HASHES = (ROOT / ".ci/hashes.txt").read_text()
NOT_IN_CI = ("docs", "ray")
"""Extras that only a workflow or job of their own installs."""
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def wanted() -> list[Requirement]:
    """What is asked for by name, of all extras."""
    project = PROJECT["project"]
    lines = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
    extras = project["optional-dependencies"].items()
    lines += [line for extra, wanted in extras if extra not in NOT_IN_CI for line in wanted]
    return [one for one in map(Requirement, lines) if one.name != project["name"]]


def locked(name: str, python: str) -> list[str]:
    """The versions that a Python on Linux gets."""
    machine = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    same = [one for one in LOCK if one.name == re.sub(r"[-_.]+", "-", name).lower()]
    return [str(one.specifier)[2:] for one in same if one.marker is None or one.marker.evaluate(machine)]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_one_version_that_is_allowed_for_each_requirement(python: str) -> None:
    wrong = {}
    for one in wanted():
        if one.marker and not one.marker.evaluate({"python_version": python, "extra": ""}):
            continue
        found = locked(one.name, python)
        if len(found) != 1 or found[0] not in one.specifier:
            wrong[str(one)] = found
    assert wrong == {}, "write .ci/constraints.txt anew: its first lines say how"


def test_a_line_is_an_exact_version_and_names_no_host() -> None:
    assert [line for line in LINES if not re.match(r"[a-z0-9.-]+==[\w.]+( ;|$)", line)] == []
    assert not any("://" in line for line in LINES)


def test_every_release_of_the_lock_has_the_hashes_of_its_files() -> None:
    lines = [line for line in HASHES.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line)] == [
        f"{line} \\" for line in LINES
    ], "write .ci/hashes.txt anew: its first lines say how"
    assert not any("://" in line for line in lines)
    followed = list(zip(lines, [*lines[1:], ""], strict=True))
    assert all(after.startswith("    --hash=") for line, after in followed if line.endswith("\\"))
