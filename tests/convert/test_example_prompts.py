"""The prompts of a model's card, which the server's page and the terminal offer."""

from __future__ import annotations

from pathlib import Path

from support.synthetic import make_checkpoint

from pytrimode.convert import convert
from pytrimode.gguf import keys
from pytrimode.gguf.header import read_gguf_header

CARD = """---
license: apache-2.0
widget:
- text: "What is 47 + 85?"
  example_title: Sum
- example_title: Plain
  text: Sort these   numbers
-   text: 'It''s'
tags:
- text: no prompt
---
- text: "nor this"
"""


def test_the_prompts_of_a_card_are_in_the_file(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    (checkpoint / "README.md").write_text(CARD)
    file = convert(checkpoint, tmp_path / "out.gguf", "f16").path
    assert read_gguf_header(file).metadata[keys.EXAMPLE_PROMPTS] == "What is 47 + 85?\nSort these numbers\nIt's"


def test_a_card_without_them_adds_nothing(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    (checkpoint / "README.md").write_text("No front matter\nwidget:\n- text: x\n")
    file = convert(checkpoint, tmp_path / "out.gguf", "f16").path
    assert keys.EXAMPLE_PROMPTS not in read_gguf_header(file).metadata
