"""What a model card says in its front matter: YAML between two lines of dashes, as the hub has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MODEL_CARD = "README.md"
MOST_CHARS = 100_000
"""Of a front matter that is read."""
MOST_PROMPTS = 8
MOST_PROMPT_CHARS = 200
"""Of an example prompt: it is to stand on a button."""
REPO = re.compile(r"[\w.-]+/[\w.-]+")
"""A name on the hub."""


@dataclass(frozen=True)
class ModelCard:
    """The front matter of a model card.

    Attributes:
        fields: its keys; every scalar is text.
        notes: why there are none, where it cannot be read.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> ModelCard:
        """Read a card; one without a front matter has no fields."""
        match = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
        if not match:
            return cls()
        if len(match[1]) > MOST_CHARS:
            return cls(notes=[f"{MODEL_CARD}: a front matter of {len(match[1])} characters is not read"])
        import yaml

        try:
            fields = yaml.load(match[1], Loader=yaml.BaseLoader)
        except (yaml.YAMLError, RecursionError) as error:
            where = getattr(error, "problem_mark", None)
            line = f", line {where.line + 2}" if where else ""
            return cls(notes=[f"{MODEL_CARD}{line}: its front matter is no YAML: licence and base model are not read"])
        return cls(fields if isinstance(fields, dict) else {})

    def text(self, key: str) -> str | None:
        """Return a field that is text and not empty, else None."""
        value = self.fields.get(key)
        return value if isinstance(value, str) and value else None

    @property
    def base_models(self) -> list[str]:
        """The names on the hub that it gives as `base_model`: one, or a list."""
        return [
            name for name in _items(self.fields.get("base_model")) if isinstance(name, str) and REPO.fullmatch(name)
        ]

    @property
    def example_prompts(self) -> list[str]:
        """The `text` of each entry of `widget`, on one line; long ones are left out."""
        texts = [entry.get("text") for entry in _items(self.fields.get("widget")) if isinstance(entry, dict)]
        prompts = [" ".join(text.split()) for text in texts if isinstance(text, str)]
        return [prompt for prompt in prompts if 0 < len(prompt) <= MOST_PROMPT_CHARS][:MOST_PROMPTS]


def _items(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list) else [value]
