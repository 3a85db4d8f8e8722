"""JSON schemas as GBNF: llama-cpp-python's translation, held to what RFC 8259 calls a string.

On its own it lets raw control characters through, and a `pattern` quotes and backslashes too; nor does it escape the
backslashes of `enum`, `const` and property names. Importing this loads llama-cpp-python's own instance of libllama.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import json
import re
from typing import Any

from llama_cpp.llama_grammar import SchemaConverter

_ESCAPED = ['"', "\\", *map(chr, range(0x20))]
"""Characters that stand in a JSON string with a backslash only."""
_ESCAPED_CLASS = r'"\\\x00-\x1F'
"""The same within a character class of GBNF."""
_LITERAL_OR_CLASS = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]')
_CLASS = re.compile(r"\[(?:\\.|[^\]\\])*\]")


class _Converter(SchemaConverter):
    def _add_rule(self, name: str, rule: str) -> str:
        """Any character but some: and but those that JSON escapes."""

        def narrowed(found: re.Match[str]) -> str:
            part = found[0]
            return f"[^{_ESCAPED_CLASS}{part[2:]}" if part.startswith("[^") else part

        return str(super()._add_rule(name, _LITERAL_OR_CLASS.sub(narrowed, rule)))

    def _format_literal(self, literal: str) -> str:
        return str(super()._format_literal(literal.replace("\\", "\\\\")))

    def _visit_pattern(self, pattern: str, name: str) -> str:
        classes = [part for part in _CLASS.findall(pattern) if not part.startswith("[^")]
        if any(re.fullmatch(part, char) for part in classes for char in _ESCAPED) or re.search(
            r'"|\\[\\nrtx]|[\x00-\x1f]', _CLASS.sub("", pattern)
        ):
            raise ValueError(f"pattern {pattern!r} asks for quotes, backslashes or control characters")
        return str(super()._visit_pattern(pattern, name))


def schema_to_gbnf(schema: Any) -> str:
    """GBNF of which every text is JSON. Raises whatever the translation raises for a schema that it does not know."""
    converter = _Converter(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)
    converter.visit(converter.resolve_refs(json.loads(json.dumps(schema)), "stdin"), "")
    return str(converter.format_grammar())
