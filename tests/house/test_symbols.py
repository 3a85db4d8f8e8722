"""What the documents say in backticks about the code is there: classes, functions, members, modules, options."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from support.documents import DOCUMENTS, ROOT, name

PYTHON = [
    path
    for room in ("pytrimode", "convert", "quantize")
    for path in sorted((ROOT / room).rglob("*.py*"))
    if path.suffix in (".py", ".pyi")
]
NATIVE = [path for path in sorted((ROOT / "native").rglob("*")) if path.suffix in (".h", ".cpp")]
FOREIGN = {
    "Ministral3ForCausalLM", "Mistral3ForConditionalGeneration", "ChatOpenAI", "PrivateDevices", "GBNF",
    "cv2.resize", "llama_decode", "llama_model_quantize",
}  # fmt: skip
"""Names of other projects that the documents use."""


@cache
def python_names() -> dict[str, set[str]]:
    """Every class, function and method of the package, with the names that it defines or takes."""
    found: dict[str, set[str]] = {}
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = found.setdefault(node.name, set())
                for part in ast.walk(node):
                    if isinstance(part, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                        inner.add(part.name)
                    elif isinstance(part, ast.arg):
                        inner.add(part.arg)
                    elif isinstance(part, ast.AnnAssign | ast.Assign):
                        targets = [part.target] if isinstance(part, ast.AnnAssign) else part.targets
                        inner |= {t.id if isinstance(t, ast.Name) else t.attr for t in targets
                                  if isinstance(t, ast.Name | ast.Attribute)}  # fmt: skip
    return found


@cache
def native_text() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in NATIVE)


def is_native(owner: str, member: str) -> bool:
    """Whether native/ has the member of a class: defined outside of it, or declared in the file of the class."""
    if re.search(rf"\b{owner}::{member}\b", native_text()):
        return True
    declared = re.compile(rf"(?:class|struct) {owner}\b[^;]*\{{.*?\b{member}\b.*?^\}};", re.DOTALL | re.MULTILINE)
    return any(declared.search(path.read_text(encoding="utf-8")) for path in NATIVE if path.suffix == ".h")


def is_member(owner: str, member: str) -> bool:
    """Whether a class of the package, or one above it, has the member."""
    return any(member in python_names().get(known, ()) for known in {owner, *base_names(owner)})


@cache
def classes() -> dict[str, frozenset[str]]:
    """The classes of the package, and the names of those that each derives from."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in PYTHON)
    found = re.findall(r"^class (\w+)\(([^)]*)\):", text, re.MULTILINE)
    return {owner: frozenset(re.findall(r"[A-Za-z_]+", bases)) for owner, bases in found}


def base_names(owner: str) -> frozenset[str]:
    """The classes above a class of the package, by name."""
    bases = classes().get(owner, frozenset())
    return bases.union(*map(base_names, bases - {owner}))


def symbols(text: str) -> list[str]:
    """What stands in backticks, outside of fenced blocks, and looks like a name in code."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"(?<!`)`([A-Za-z_][\w.:]*(?:\([^`\n]*\))?)`(?!`)", text)


def fault(symbol: str) -> str:
    """What is wrong with a symbol; empty if nothing is, or if it names no code of ours."""
    bare = re.sub(r"\(.*", "", symbol)
    if bare in FOREIGN:
        return ""
    if match := re.fullmatch(r"([A-Z]\w+)::(\w+)", bare):
        return "" if is_native(match[1], match[2]) else f"native/ has no {bare}"
    if match := re.fullmatch(r"([A-Z][a-z]\w+)\.(\w+)", bare):
        if bare.endswith((".h", ".gguf", ".json", ".md", ".Module")):
            return ""
        return "" if is_member(match[1], match[2]) else f"{match[1]} has no {match[2]}"
    if match := re.fullmatch(r"pytrimode((?:\.\w+)+)", bare):
        parts = match[1].strip(".").split(".")
        places = [ROOT / "pytrimode", ROOT]
        return "" if any(is_module(place, parts) for place in places) else f"there is no {bare}"
    if re.fullmatch(r"[A-Z][a-z]+[A-Z]\w+", bare):
        known = bare in python_names() or re.search(rf"\b{bare}\b", native_text())
        return "" if known else f"there is no {bare}"
    if match := re.fullmatch(r"model\.(\w+)", bare):
        return "" if is_member("TriMode", match[1]) else f"TriMode has no {match[1]}"
    return ""


def is_module(place: Path, parts: list[str]) -> bool:
    """Whether the parts lead to a module, a package, or a name within one."""
    for i, part in enumerate(parts):
        place = place / part
        for file in (place.with_suffix(".py"), place.with_suffix(".pyi")):
            if file.exists():
                return len(parts) == i + 1 or parts[i + 1] in file.read_text(encoding="utf-8")
    return place.is_dir()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_symbols_in_a_document_exist(document: Path) -> None:
    found = {fault(symbol) for symbol in symbols(document.read_text(encoding="utf-8"))}
    assert sorted(found - {""}) == []


@pytest.mark.parametrize(
    "symbol", ["Engine::stepp", "TriMode.run_all", "NoSuchThing", "pytrimode.answers.nothing", "model.nothing(1)"]
)
def test_a_symbol_that_is_not_there_is_found(symbol: str) -> None:
    assert fault(symbol)


@pytest.mark.parametrize(
    "symbol",
    ["Forward::run", "TriMode.steps", "TriMode.n_vocab", "DraftLength", "pytrimode.answers", "model.logits(tokens)"],
)
def test_a_symbol_that_is_there_is_not(symbol: str) -> None:
    assert not fault(symbol)
