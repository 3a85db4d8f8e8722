"""Texts and tokens as llguidance's Lark syntax writes them."""

from __future__ import annotations

import json


def literal(text: str) -> str:
    """Return a text; nothing for none."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\x7f") if text else '""'


def token(number: int) -> str:
    """Return a token by its id."""
    return f"<[{number}]>"
