"""What threads lose when other programs are busy: alone, and with one busy neighbour for each processor.

    python -m benchmarks.busy_machine [MODEL] [--rounds 5] [--seconds 3]

Settings take turns; each runs in a process of its own, as how threads wait is decided when the library is loaded. The
first setting is the default, which learns within a second whether one thread is enough; `-t 1` is what it should not
fall much behind beside neighbours; `spinning` is all threads, and how OpenMP waits unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pytrimode.threads import SPIN_VARIABLE, default_threads

MODES = {"ar": {"mode": "ar"}, "self-spec 8": {"mode": "self-spec", "block_length": 8}}
MEASURE = """
import json, sys, time
from pytrimode import TriMode
from pytrimode.files.shipped_model import shipped_gguf
path, threads, seconds, modes = json.loads(sys.argv[1])
with TriMode(path or shipped_gguf(), n_ctx=1024, n_threads=threads) as model:
    prompt = model.tokenize("The machine is")
    found = {}
    for name, options in modes.items():
        n_tokens, start = 0, None
        while start is None or time.perf_counter() - start < seconds:
            run = model.generate(prompt, max_tokens=400, ignore_eos=True, loop_window=0, **options)
            for token in run:
                start = start or time.perf_counter()  # the first token comes behind the warm-up
                n_tokens += 1
                if time.perf_counter() - start > seconds:
                    break
            run.close()
        found[name] = (n_tokens - 1) / (time.perf_counter() - start)
print(json.dumps(found))
"""


def busy() -> None:
    """Use a processor for ever."""
    while True:
        pass


@contextmanager
def neighbours(n: int) -> Iterator[None]:
    """So many busy processes."""
    processes = [multiprocessing.Process(target=busy, daemon=True) for _ in range(n)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def measure(model: str | None, threads: int | None, environment: dict[str, str], seconds: float) -> dict[str, float]:
    """Tokens per second by mode, in a new process."""
    command = [sys.executable, "-c", MEASURE, json.dumps([model, threads, seconds, MODES])]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each mode of each setting")
    arguments = parser.parse_args()
    settings: dict[str, tuple[int | None, dict[str, str]]] = {
        "default": (None, {}),
        "-t 1": (1, {}),
        "spinning": (default_threads(), {SPIN_VARIABLE: "300000"}),
    }
    processors = len(os.sched_getaffinity(0))
    found: dict[tuple[str, int, str], list[float]] = {}
    for _ in range(arguments.rounds):
        for n in (0, processors):
            with neighbours(n):
                for name, (threads, environment) in settings.items():
                    for mode, speed in measure(arguments.model, threads, environment, arguments.seconds).items():
                        found.setdefault((name, n, mode), []).append(speed)
    print(f"{processors} processors, {arguments.rounds} rounds: median (lowest to highest)\n")
    print("| setting | mode | alone, tokens/s | a neighbour on each processor | of alone | of -t 1 |\n|" + "---|" * 6)
    for name in settings:
        for mode in MODES:
            alone, crowded = found[name, 0, mode], found[name, processors, mode]
            ratios = [c / a for c, a in zip(crowded, alone, strict=True)]
            others = [c / o for c, o in zip(crowded, found["-t 1", processors, mode], strict=True)]
            cells = [spread(alone, 0), spread(crowded, 0), spread(ratios, 2) + "x", spread(others, 2) + "x"]
            print(f"| {name} | {mode} | " + " | ".join(cells) + " |", flush=True)


def spread(values: list[float], digits: int) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
