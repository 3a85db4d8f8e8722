#!/usr/bin/env python3
"""Writes the stub of the compiled engine, pytrimode/_native.pyi, from its bindings.

    python tools/native_stub.py

nanobind reads signatures and docstrings off the extension that is installed (native/bindings/). A test holds the file.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

from nanobind.stubgen import StubGen, load_pattern_file

ROOT = Path(__file__).resolve().parents[1]
STUB = ROOT / "pytrimode/_native.pyi"
PATTERNS = ROOT / "native/bindings/stub_patterns.txt"
WIDTH = 120


class _Stub(StubGen):
    """nanobind's, with docstrings in lines of the house's width."""

    def format_docstr(self, docstr: str, depth: int) -> str:
        indent = "    " * depth
        width = WIDTH - len(indent)
        text = docstr.strip().replace("\\", "\\\\").replace('"""', r"\"\"\"")
        text = f" {text}" if text.startswith('"') else text
        text = f"{text} " if text.endswith('"') else text
        first, *rest = (textwrap.fill(part, width, break_long_words=False) for part in text.split("\n\n"))
        single = not rest and len(first) + 6 <= width and "\n" not in first
        first = first if single else textwrap.fill('"""' + text.split("\n\n")[0], width)[3:]
        body = "\n\n".join([first, *rest])
        closed = f'"""{body}"""\n' if single else f'"""{body}\n"""\n'
        return textwrap.indent(closed, indent)


def stub_text() -> str:
    """Return the stub of the extension that is installed, formatted."""
    module = importlib.import_module("pytrimode._native")
    stub = _Stub(module, patterns=load_pattern_file(str(PATTERNS)))
    stub.put(module)
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(STUB), "-"]
    done = subprocess.run(command, input=stub.get(), capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


def main() -> None:
    """Write the file."""
    STUB.write_text(stub_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
