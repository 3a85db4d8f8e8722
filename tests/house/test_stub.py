"""The stub of the compiled engine is what its bindings say, and every part of it is documented."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import native_stub  # noqa: E402


def test_the_stub_is_that_of_the_bindings_of_now() -> None:
    assert native_stub.STUB.read_text(encoding="utf-8") == native_stub.stub_text(), "run tools/native_stub.py"


def undocumented(tree: ast.AST, within: str = "") -> list[str]:
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            name = within + node.name
            setter = isinstance(node, ast.FunctionDef) and any(
                isinstance(d, ast.Attribute) for d in node.decorator_list
            )
            if not ast.get_docstring(node) and node.name != "__init__" and not setter:
                found.append(name)
            found += undocumented(node, f"{name}.")
    return found


def test_everything_in_the_stub_says_what_it_is() -> None:
    assert undocumented(ast.parse(native_stub.STUB.read_text(encoding="utf-8"))) == []
