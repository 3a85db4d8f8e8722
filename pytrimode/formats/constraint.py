"""What an answer must be: a grammar for llguidance, made of a JSON schema, a regular expression, choices or GBNF."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pytrimode.formats.constraint_check import check_grammar
from pytrimode.formats.gbnf import TokenOf
from pytrimode.formats.json_schema import closed
from pytrimode.formats.lark import literal

HEADER = "%llguidance"
"""What a grammar in llguidance's Lark syntax begins with, as in llama.cpp."""
OPTIONS = HEADER + ' {"no_forcing": true}\n'
"""All tokens that a grammar allows may come, not only those in which a tokenizer would cut a text that is certain."""
WHITE_SPACE = " "
"""Between the parts of JSON, once or not at all: an endless run would be an endless answer."""


@dataclass(frozen=True)
class Constraint:
    """A grammar that was found to compile."""

    lark: str
    """In llguidance's syntax (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md)."""
    after_reasoning: bool = False
    """Whether it begins behind the reasoning, which the prompt has opened."""


def json_rule(schema: Any) -> str:
    """Return a rule's right side: JSON of a schema. Raises ValueError for what is no schema."""
    if not isinstance(schema, (dict, bool)):
        raise ValueError(f"a JSON schema is an object, true or false, not {json.dumps(schema)[:60]}")
    if schema is False:
        raise ValueError("the schema false allows nothing")
    known = {} if schema is True else schema
    if "x-guidance" in known:
        raise ValueError("the schema's key x-guidance is not supported")
    try:
        # Not sorted: properties are written in the order of the schema.
        return "%json " + json.dumps({"x-guidance": {"whitespace_pattern": WHITE_SPACE}, **closed(known)})
    except RecursionError:
        raise ValueError("the schema is nested too deeply") from None


def of_schema(schema: Any, name: str, *, after_reasoning: bool = False) -> Constraint:
    """JSON that a schema allows. Raises ValueError, which begins with `name`, for a keyword that cannot be kept."""
    try:
        return checked(f"start: {json_rule(schema)}", name, after_reasoning=after_reasoning)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(name) else f"{name}: {message}") from None


def of_regex(pattern: str, name: str) -> Constraint:
    """Texts that a regular expression, in Rust's syntax, matches as a whole.

    Raises ValueError, which begins with `name`.
    """
    from llguidance import regex_to_lark

    return checked(f"start: /{regex_to_lark(pattern, '')}/", name)


def of_choices(choices: Sequence[str], name: str) -> Constraint:
    """One of some texts. Raises ValueError, which begins with `name`."""
    if not choices:
        raise ValueError(f"{name}: there is none")
    return checked(f"start: {' | '.join(map(literal, choices))}", name)


def of_grammar(grammar: str, token_of: TokenOf) -> Constraint:
    """Texts of a grammar: GBNF with a rule `root`, or what begins with %llguidance, in llguidance's syntax.

    Raises ValueError for one that does not compile.
    """
    name = "grammar: cannot be parsed"
    if any("\ud800" <= char <= "\udfff" or char == "\0" for char in grammar):
        raise ValueError(f"{name}: it has characters that no text has")
    if grammar.lstrip().startswith(HEADER):
        return checked(OPTIONS + grammar.lstrip(), name)
    names = tuple((text, token_of(text)) for text in sorted(set(_TOKEN_NAMES.findall(grammar))))
    try:
        return checked(_lark_of(grammar, names), name)
    except RecursionError:
        raise ValueError(f"{name}: its rules lead too deep into each other") from None
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(name) else f"{name}: {message}") from None


_TOKEN_NAMES = re.compile(r"<[^<>\s\[][^<>\s]*>")


@lru_cache(maxsize=64)
def _lark_of(grammar: str, names: tuple[tuple[str, int], ...]) -> str:
    from pytrimode.formats.gbnf_lark import gbnf_to_lark

    return gbnf_to_lark(grammar, lambda text: dict(names).get(text, -1))


def checked(rules: str, name: str, *, after_reasoning: bool = False) -> Constraint:
    """Return the constraint of Lark rules, `start` among them. Raises ValueError, which begins with `name`."""
    lark = rules if rules.startswith(HEADER) else OPTIONS + rules
    check_grammar(lark, name)
    return Constraint(lark, after_reasoning)
