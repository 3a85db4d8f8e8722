"""The layers of native/: a room includes only itself and rooms below it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "native"
README = (NATIVE / "README.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `(\w+)/` \|", README, re.MULTILINE)
SOURCES = sorted(path for path in NATIVE.rglob("*") if path.suffix in (".h", ".cpp"))


def ours(path: Path) -> list[str]:
    """The files of native/ that a file includes, as written."""
    return [name for name in re.findall(r'#include "([^"]+)"', path.read_text()) if (NATIVE / name).is_file()]


def test_the_readme_names_every_room_and_every_file() -> None:
    assert sorted(ROOMS) == sorted({path.parent.name for path in SOURCES})
    named = set(re.findall(r"`(\w+)`", README))
    assert sorted({path.stem for path in SOURCES if not path.stem.startswith("bind_")} - named) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_includes_only_rooms_above_it_in_the_readme(room: str) -> None:
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    wrong = [
        f"{path.relative_to(NATIVE)} includes {name}"
        for path in SOURCES
        if path.parent.name == room
        for name in ours(path)
        if name.split("/")[0] not in allowed
    ]
    assert wrong == []


def test_headers_include_each_other_in_no_circle() -> None:
    headers = {str(path.relative_to(NATIVE)): ours(path) for path in SOURCES if path.suffix == ".h"}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way, name])
        if name not in done:
            for other in headers[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in headers:
        visit(name, ())


def test_no_file_but_the_checkpoint_is_large() -> None:
    """Dumps of processes, models and results of runs stay out of the tree."""
    root = NATIVE.parent
    folders = ("benchmarks", "convert", "docs", "examples", "native", "pytrimode", "quantize", "tests", "tools")
    files = [*root.glob("*"), *(path for folder in folders for path in (root / folder).rglob("*"))]
    built = (".so", ".gguf", ".pyc")
    large = [
        str(path.relative_to(root))
        for path in files
        if path.is_file()
        and path.suffix not in built
        and path.stat().st_size > 1 << 20
        and "node_modules" not in path.parts
    ]
    assert large == []
