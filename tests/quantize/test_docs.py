"""docs/quantization.md: its tables are those that the code makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import quantization_tables


def table(name: str) -> str:
    document = quantization_tables.DOCUMENT.read_text()
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", document, re.DOTALL)
    assert found, f"no table {name}"
    return found[1].strip()


@pytest.mark.slow
def test_what_fits_where_is_what_the_planner_says() -> None:
    """Sizes aside: a GPU's backend asks for somewhat other buffers."""
    without_sizes = re.compile(r": [\d.]+ [MG]iB|\(all: [\d.]+ [MG]iB\)")
    made = quantization_tables.cards_table().strip()
    assert without_sizes.sub("", table("cards")) == without_sizes.sub("", made)
    assert "| 24 GiB |" in made


def test_a_table_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "doc.md"
    document.write_text("before\n<!-- cards -->\nold\n<!-- /cards -->\nafter\n")
    monkeypatch.setattr(quantization_tables, "DOCUMENT", document)
    quantization_tables.replace_table("cards", "| new |")
    assert document.read_text() == "before\n<!-- cards -->\n| new |\n<!-- /cards -->\nafter\n"
    with pytest.raises(SystemExit, match="no place for types"):
        quantization_tables.replace_table("types", "")
