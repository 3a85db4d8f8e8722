"""Inputs that are kept: few that reach what all of them reach, each a line of base64 in tools/fuzz/corpus/NAME.txt.

    python -m tools.fuzz.kept grammar              # of what tools.fuzz.guided found
    python -m tools.fuzz.kept cache                # of what tools/fuzz/native.sh found
    python -m tools.fuzz.kept cache --unpack DIR   # the files again

Of a reader in Python: from the shortest on, those that lead it from a line to another as none before did. Of the
engine: libFuzzer's own choice (-merge). What was kept before takes part.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from tools.fuzz.targets import TARGETS, Target

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path("build/fuzz")
NATIVE = ("cache", "output", "products")
"""Harnesses in tools/fuzz/native."""
LONGEST = 16384
"""Bytes of an input that is worth keeping."""


def read(name: str) -> list[bytes]:
    """Return what is kept for a target; nothing for one without a file."""
    path = CORPUS / f"{name}.txt"
    lines = path.read_text().split() if path.exists() else []
    return [zlib.decompress(base64.b64decode(line)) for line in lines]


def write(name: str, inputs: Iterable[bytes]) -> None:
    """Keep inputs in place of those that were kept."""
    lines = [base64.b64encode(zlib.compress(data, 9)).decode() for data in inputs]
    (CORPUS / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))


def reached(target: Target, data: bytes) -> set[tuple[str, int, int]]:
    """Return the steps from line to line that an input leads to, in files of pytrimode."""
    steps: set[tuple[str, int, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if "pytrimode" not in frame.f_code.co_filename:
            return None
        last = frame.f_code.co_firstlineno

        def local(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if event == "line":
                steps.add((frame.f_code.co_filename, last, frame.f_lineno))
                last = frame.f_lineno
            return local

        return local

    sys.settrace(trace)
    try:
        target.check(data)
    finally:
        sys.settrace(None)
    return steps


def few(target: Target, inputs: Iterable[bytes]) -> list[bytes]:
    """Return those of which each reaches what the shorter ones do not, nor the target's seeds."""
    seen: set[tuple[str, int, int]] = set()
    for data in target.seeds():
        seen |= reached(target, data)
    kept = []
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        if len(data) <= LONGEST and (steps := reached(target, data)) - seen:
            seen |= steps
            kept.append(data)
    return kept


def merged(name: str, folders: Iterable[Path]) -> list[bytes]:
    """Return libFuzzer's choice of the inputs in folders."""
    with tempfile.TemporaryDirectory() as chosen:
        command = [str(FOUND / "bin" / name), "-merge=1", chosen, *map(str, folders)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return sorted((path.read_bytes() for path in Path(chosen).iterdir()), key=lambda data: (len(data), data))


def unpack(name: str, folder: Path) -> None:
    """Write the kept inputs to files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(read(name)):
        (folder / f"kept-{number}").write_bytes(data)


def main() -> None:
    """Choose and keep, or unpack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*TARGETS, *NATIVE])
    parser.add_argument("--unpack", type=Path, metavar="DIR")
    args = parser.parse_args()
    if args.unpack:
        unpack(args.name, args.unpack)
        return
    found = FOUND / args.name / "corpus"
    if args.name in NATIVE:
        with tempfile.TemporaryDirectory() as before:
            unpack(args.name, Path(before))
            write(args.name, merged(args.name, [Path(before), found]))
    else:
        inputs = [path.read_bytes() for path in found.iterdir() if path.is_file()]
        write(args.name, few(TARGETS[args.name], [*read(args.name), *inputs]))


if __name__ == "__main__":
    main()
