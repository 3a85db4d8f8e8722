"""The reference of the Python API names what is there, and the README's table of memory is what `plan` says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from pytrimode.plan import plan

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
NAV = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2])


def test_every_document_is_in_the_site() -> None:
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(NAV) == sorted(written)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_reference_names_is_there_and_described(page: Path) -> None:
    names = re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    assert names
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name


@pytest.mark.slow
@pytest.mark.parametrize("size", ["3B", "8B", "14B"])
def test_the_table_of_memory_is_what_plan_says(size: str) -> None:
    readme = (ROOT / "README.md").read_text()
    header = next(line for line in readme.splitlines() if line.startswith("| model | BF16"))
    types = [cell.strip().lower() for cell in header.strip("|").split("|")][1:]
    row = next(line for line in readme.splitlines() if line.startswith(f"| {size} |"))
    said = dict(zip(types, (float(cell.split()[0]) for cell in row.strip("|").split("|")[1:]), strict=True))
    found = {o.quantization: o.on_device / 2**30 for o in plan(size, n_ctx=8192).options if o.cache_type == "f16"}
    assert said == pytest.approx({kind: found[kind] for kind in types}, abs=0.06)
