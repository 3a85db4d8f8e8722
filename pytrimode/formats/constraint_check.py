"""Whether a grammar compiles, found out where it can hold and fill nothing but a process of its own."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path

from pytrimode.formats import constraint_worker
from pytrimode.formats.worker_process import WorkerEndedError, WorkerProcess

MAX_CHARS = 1 << 20
"""Of a grammar as llguidance takes it."""
CPU_SECONDS = 1.0
"""For one grammar; a JSON schema of 200 properties takes 0.01."""
MEMORY_BYTES = 1 << 30
"""Of the process that compiles, beyond what it starts with."""
N_KEPT = 256
"""Grammars of which it is remembered what was found."""

_KEPT_BYTES = 1 << 24


def check_grammar(lark: str, name: str) -> None:
    """Compile a grammar within the worker's limits. Raises ValueError, which begins with `name`, where that fails."""
    if len(lark) > MAX_CHARS:
        raise ValueError(f"{name}: it is a grammar of {len(lark)} characters, at most {MAX_CHARS} are taken")
    if problem := _check(lark):
        raise ValueError(f"{name}: {problem}")


def library_path() -> str:
    """llguidance's shared library. Raises ImportError when it is not installed."""
    spec = find_spec("llguidance")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    found = sorted(folder.glob("_lib*.so")) if folder else []
    if not found:
        raise ImportError("llguidance is not installed: pip install llguidance")
    return str(found[0])


_PLACE = re.compile(r"^(?:at )?\d+\(\d+\): ")
_WHAT_IT_IS = "failed to compile JSON schema: "


def _in_short(problem: str) -> str:
    """Return the library's message without the grammar that it quotes."""
    if problem.startswith("NoExtension"):
        return "it allows no text"
    lines = [line.strip() for line in _PLACE.sub("", problem.partition("<state>")[0].strip()).splitlines()]
    said = [line for line in lines if line.strip(" ^") and not re.match(r"^(\d+ )?\|", line)]
    text = " ".join(said[:4]).replace(_WHAT_IT_IS, "").replace("Unimplemented keys:", "keywords that cannot be kept:")
    return text.replace("Enable 'coerce_one_of' option to approximate oneOf with anyOf", "Use anyOf")[:400]


class _Known:
    """What was found of the grammars asked about last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[str, str] = OrderedDict()
        self._bytes = 0

    def get(self, lark: str) -> str | None:
        with self._lock:
            if lark not in self._found:
                return None
            self._found.move_to_end(lark)
            return self._found[lark]

    def put(self, lark: str, problem: str) -> None:
        with self._lock:
            if lark not in self._found:
                self._bytes += len(lark)
            self._found[lark] = problem
            while len(self._found) > N_KEPT or self._bytes > _KEPT_BYTES:
                self._bytes -= len(self._found.popitem(last=False)[0])


_known = _Known()
_worker = WorkerProcess(constraint_worker.__file__, "llguidance", seconds=CPU_SECONDS, memory=MEMORY_BYTES)


def _check(lark: str) -> str:
    found = _known.get(lark)
    if found is None:
        try:
            found = _in_short(_worker.ask(lark) or "")
        except WorkerEndedError:
            found = "it takes too much time or memory to compile: make it smaller, or its repetitions and ranges"
        _known.put(lark, found)
    return found
