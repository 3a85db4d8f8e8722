"""What a model card says of its model: prompts that the page of the server offers, licence, base model."""

from __future__ import annotations

from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("license: mit\nwidget: [unclosed\n", "README.md, line "),
        ("license: mit\n" + "[" * 20_000 + "\n", "README.md"),
        ("license: mit\nx: " + "a" * 200_000 + "\n", "of 200016 characters is not read"),
    ],
)
def test_a_front_matter_that_cannot_be_read_is_told(front: str, said: str, tmp_path: Path) -> None:
    """The conversion goes on without it."""
    checkpoint = make_checkpoint(tmp_path / "model")
    (checkpoint / "README.md").write_text(f"---\n{front}---\nHi")
    result = convert(checkpoint, tmp_path / "out.gguf", "f16")
    assert [note for note in result.notes if said in note]
    assert "general.license" not in read_gguf_header(result.path).metadata


@pytest.mark.parametrize(
    "front", ["- a\n- list\n", "text\n", "", "widget: x\nlicense: [a, b]\n", "widget:\n- text: [a]\n- x\n- text:\n"]
)
def test_a_front_matter_of_other_things_says_nothing(front: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    (checkpoint / "README.md").write_text(f"---\n{front}---\nHi")
    result = convert(checkpoint, tmp_path / "out.gguf", "f16")
    metadata = read_gguf_header(result.path).metadata
    assert not {"general.license", keys.EXAMPLE_PROMPTS, "general.base_model.count"} & metadata.keys()
