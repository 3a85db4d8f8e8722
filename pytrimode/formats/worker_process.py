"""Work on what strangers send, in a process that can be ended when it takes too long or too much memory."""

from __future__ import annotations

import atexit
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pytrimode.formats import worker_loop


class WorkerEndedError(Exception):
    """The process ended over a request: it went beyond a limit."""


class WorkerProcess:
    """A process that is started when it is needed, and again when it has ended. Any thread may ask; one at a time."""

    def __init__(self, module: str, package: str, *, seconds: float, memory: int) -> None:
        """Describe the process. `module`: the file of a module with a function `start`, see `worker_loop`. `package`:
        an installed package that it imports. `seconds` of a processor for one answer, `memory` in bytes.
        """
        self._module, self._package = module, package
        self._seconds, self._memory = seconds, memory
        self._wall_seconds = 60 * seconds  # in which it has those seconds even on a busy machine
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)
        os.register_at_fork(after_in_child=self._forget)

    def ask(self, request: Any) -> Any:
        """Return the answer. Raises WorkerEndedError where there is none; TypeError for what is not JSON."""
        line = json.dumps(request).encode() + b"\n"
        with self._lock:
            try:
                answer = _exchange(self._running(), line, self._wall_seconds)
            except OSError:
                answer = b""
            if not answer.endswith(b"\n"):
                self.stop()
                raise WorkerEndedError
        return json.loads(answer)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-I", worker_loop.__file__, _packages(self._package), self._module]
            self._process = subprocess.Popen(
                [*command, str(self._seconds), str(self._memory)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
                start_new_session=True,
            )  # fmt: skip
        return self._process

    def _forget(self) -> None:
        """Leave the process to the parent, of whose threads one may have the lock."""
        self._lock, self._process = threading.Lock(), None

    def stop(self) -> None:
        """End the process; the next request starts another one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


def _packages(name: str) -> str:
    """Return the folder in which a package is installed."""
    from importlib.util import find_spec

    spec = find_spec(name)
    return str(Path(spec.origin).parent.parent) if spec and spec.origin else ""


def _exchange(process: subprocess.Popen[bytes], line: bytes, seconds: float) -> bytes:
    """Return the line that answers a line; less where there is none in time. Writes and reads at the same time: neither
    side may wait for the other one to empty a pipe.
    """
    assert process.stdin and process.stdout
    to, back = process.stdin.fileno(), process.stdout.fileno()
    end = time.monotonic() + seconds
    os.set_blocking(to, False)
    left, answer = memoryview(line), bytearray()
    with selectors.DefaultSelector() as ready:
        ready.register(back, selectors.EVENT_READ)
        ready.register(to, selectors.EVENT_WRITE)
        while not answer.endswith(b"\n"):
            events = ready.select(max(0.0, end - time.monotonic()))
            if not events:
                break
            for key, _ in events:
                if key.fd == back:
                    if not (piece := os.read(back, 1 << 16)):
                        return bytes(answer)
                    answer += piece
                    continue
                left = left[os.write(to, left[: 1 << 16]) :]
                if not left:
                    ready.unregister(to)
    return bytes(answer)
