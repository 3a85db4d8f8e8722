"""The other side of `worker_process`: a process that answers lines of JSON, each within limits of time and memory.

Run as a script: FOLDER of the installed packages, FILE of a module with a function `start` that returns the function
which makes an answer of a request, seconds of the processor for one answer, bytes of memory for all. It imports nothing
of this package, which would take longer than the work.
"""

import importlib.util
import json
import resource
import signal
import sys
import threading
from typing import Any

STACK_BYTES = 2 << 20
"""Less than threads have by default: what does not fit it ends this process, and never one that does the same later."""


def _load(file: str) -> Any:
    spec = importlib.util.spec_from_file_location("work", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["work"] = module
    spec.loader.exec_module(module)
    return module


def _address_space() -> int:
    """0 where it is not known; such a system has no such limit either."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - the fewer imports the sooner it starts
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _serve(file: str, seconds: float, memory: int) -> None:
    answer = _load(file).start()
    if used := _address_space():
        resource.setrlimit(resource.RLIMIT_AS, (used + memory,) * 2)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process
        answered = json.dumps(answer(json.loads(line)))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(answered, flush=True)


if __name__ == "__main__":
    sys.path.append(sys.argv[1])
    threading.stack_size(STACK_BYTES)
    worker = threading.Thread(target=_serve, args=(sys.argv[2], float(sys.argv[3]), int(sys.argv[4])), daemon=True)
    worker.start()
    worker.join()
