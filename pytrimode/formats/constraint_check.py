"""Whether a grammar compiles, found out where it can hold and fill nothing but a process of its own."""

from __future__ import annotations

import atexit
import json
import os
import re
import selectors
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path

from pytrimode.formats import constraint_worker

MAX_CHARS = 1 << 20
"""Of a grammar as llguidance takes it."""
WALL_SECONDS = 20.0
"""In which the worker has its CPU_SECONDS even on a busy machine."""
N_KEPT = 256
"""Grammars of which it is remembered what was found."""

_KEPT_BYTES = 1 << 24


def check_grammar(lark: str, name: str) -> None:
    """Raises ValueError, which begins with `name`, for a grammar that does not compile within the worker's limits."""
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


class _Worker:
    """The process, started when it is needed and again when it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, lark: str) -> str:
        """What is wrong with a grammar; empty: nothing."""
        with self._lock:
            process = self._running()
            try:
                answer = _exchange(process, json.dumps(lark).encode() + b"\n")
            except OSError:
                answer = b""
            if not answer.endswith(b"\n"):
                self.stop()
                return "it takes too much time or memory to compile: make it smaller, or its repetitions and ranges"
            return _in_short(json.loads(answer) or "")

    def _running(self) -> subprocess.Popen[bytes]:
        # A forked child must not share its parent's pipes.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            folder = str(Path(library_path()).parent.parent)
            self._process = subprocess.Popen(
                [sys.executable, "-I", constraint_worker.__file__, folder],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, close_fds=True,
                start_new_session=True,
            )  # fmt: skip
            self._owner = os.getpid()
        return self._process

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


def _exchange(process: subprocess.Popen[bytes], line: bytes) -> bytes:
    """The line that answers a line; less where there is none in time."""
    assert process.stdin and process.stdout
    end = time.monotonic() + WALL_SECONDS
    out, answer = process.stdout.fileno(), b""
    process.stdin.write(line)
    with selectors.DefaultSelector() as ready:
        ready.register(out, selectors.EVENT_READ)
        while not answer.endswith(b"\n"):
            if not ready.select(max(0.0, end - time.monotonic())):
                break
            if not (piece := os.read(out, 1 << 16)):
                break
            answer += piece
    return answer


_PLACE = re.compile(r"^(?:at )?\d+\(\d+\): ")
_WHAT_IT_IS = "failed to compile JSON schema: "


def _in_short(problem: str) -> str:
    """The library's message without the grammar that it quotes."""
    lines = [line.strip() for line in _PLACE.sub("", problem.strip()).splitlines()]
    said = [line for line in lines if line and not re.match(r"^(\d+ )?\|", line)]
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


_worker, _known = _Worker(), _Known()
atexit.register(_worker.stop)


def _check(lark: str) -> str:
    found = _known.get(lark)
    if found is None:
        found = _worker.ask(lark)
        _known.put(lark, found)
    return found
