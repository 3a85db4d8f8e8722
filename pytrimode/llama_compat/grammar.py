"""`LlamaGrammar`: what an answer must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pytrimode.formats.constraint import Constraint, of_schema


class LlamaGrammar:
    """A grammar for `grammar=`, in GBNF or made of a JSON schema.

    GBNF is checked when it is used, with the model's special tokens; a schema at once.
    """

    def __init__(self, *, _grammar: str | Constraint) -> None:
        self._grammar = _grammar

    @classmethod
    def from_string(cls, grammar: str, verbose: bool = True) -> LlamaGrammar:
        """Take GBNF with a rule `root`; `verbose` changes nothing. Raises ValueError for an empty text."""
        if not grammar:
            raise ValueError("LlamaGrammar.from_string: the grammar is empty; give GBNF with a rule root")
        return cls(_grammar=grammar)

    @classmethod
    def from_file(cls, file: str | Path, verbose: bool = True) -> LlamaGrammar:
        """Read GBNF from a file of UTF-8. Raises OSError for one that cannot be read, ValueError for an empty one."""
        text = Path(file).read_text(encoding="utf-8")
        if not text:
            raise ValueError(f"LlamaGrammar.from_file: {file} is empty; it should hold GBNF with a rule root")
        return cls.from_string(text, verbose)

    @classmethod
    def from_json_schema(cls, json_schema: str, verbose: bool = True) -> LlamaGrammar:
        """Take a JSON schema as JSON text. Raises ValueError that names a keyword which cannot be kept."""
        name = "LlamaGrammar.from_json_schema"
        try:
            schema = json.loads(json_schema)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}: the schema is no JSON: {error}") from None
        return cls(_grammar=of_schema(schema, name))


def grammar_text(grammar: Any) -> str | Constraint | None:
    """Return what `TriMode` takes for a grammar of ours or of llama_cpp, or GBNF as text; None for None.

    Raises TypeError for anything else.
    """
    text = getattr(grammar, "_grammar", grammar)
    if text is None or isinstance(text, (str, Constraint)):
        return text
    raise TypeError(f"grammar: expected a LlamaGrammar, got {type(grammar).__name__}; use LlamaGrammar.from_string")
