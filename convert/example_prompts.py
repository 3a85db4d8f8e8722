"""Prompts that show what a model can do: those of its card, `widget` in the front matter as the hub has it."""

from __future__ import annotations

import json
import re

from pytrimode.gguf import keys
from pytrimode.gguf.metadata import Metadata

MOST_PROMPTS = 8
MOST_CHARS = 200
"""Of a prompt: it is to stand on a button."""


def add_example_prompts(metadata: Metadata, card: str) -> None:
    """Write the prompts of a model card (the text of README.md) if it has any."""
    if prompts := example_prompts(card):
        metadata.string(keys.EXAMPLE_PROMPTS, "\n".join(prompts))


def example_prompts(card: str) -> list[str]:
    """Return the `text` of each entry of `widget`, on one line; long ones are left out."""
    front = re.match(r"---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    widget = re.search(
        r"^widget:[ \t]*\n((?:[ \t-].*\n?)+)", (front[1] if front else "").replace("\r\n", "\n"), re.MULTILINE
    )
    texts = re.findall(r"^[ \t-]*\btext:[ \t]+(.+?)[ \t]*$", widget[1] if widget else "", re.MULTILINE)
    prompts = [" ".join(_scalar(text).split()) for text in texts]
    return [prompt for prompt in prompts if 0 < len(prompt) <= MOST_CHARS][:MOST_PROMPTS]


def _scalar(text: str) -> str:
    """Return a YAML string of one line, plain or between quotes, as text."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if text[0] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text.strip('"')
    return text
