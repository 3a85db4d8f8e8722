#!/usr/bin/env python3
"""Run every command with less and less memory: each must succeed or say in a line that memory is short.

    python -m tools.memory_limits                          # steps of 20 MiB, every command: about half an hour
    python -m tools.memory_limits --step 200 --commands run quantize

Each run is a process of its own with a limit on its address space (`ulimit -v`), from what Python alone needs upwards.
Faults are printed as lines of JSON: a signal, a process that does not end, a traceback, an exit without a reason, a
file left behind. The last line is a summary. Exits with 1 when there is a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytrimode.convert import convert
from tests.support.hostile import ADAPTER, MODEL
from tests.support.hostile_run import COMMANDS, TEXT, fault
from tests.support.synthetic import make_checkpoint

MIB = 1 << 20
SECONDS = 120
MOST_MIB = 8000
BIN = Path(sys.executable).parent
ALL = {
    **COMMANDS,
    "convert": lambda model, out: ("trimode-convert", f"{model.parent}/checkpoint", f"{out}/c.gguf", "--q8_0"),
    "chat": lambda model, _: ("pytrimode", "chat", str(model), "-p", "Hi", "-p", "Why?", "-n", "4", "-c", "128"),
    "bench": lambda model, _: ("pytrimode", "bench", str(model), "-n", "4", "-c", "512"),
}  # fmt: skip


def least(step: int) -> int:
    """Count the steps that Python and the imports of every program need: below, not a line of ours has run."""
    programs = "import pytrimode.cli, pytrimode.convert.cli, pytrimode.quantize.cli"
    n = 1
    while limited([sys.executable, "-c", programs], n * step, subprocess.DEVNULL) != 0:
        n += 1
    return n


def limited(command: list[str], mib: int, output: int) -> int:
    """Run a command with a limit; its exit code, negative after a signal."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mib * MIB, mib * MIB))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    try:
        return subprocess.run(
            command, preexec_fn=limit, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=SECONDS,
            check=False,
        ).returncode  # fmt: skip
    except subprocess.TimeoutExpired:
        return -int(signal.SIGALRM)


def runs(name: str, directory: Path, step: int, first: int) -> tuple[list[dict[str, object]], int, int]:
    """Run a command with more and more memory until it succeeds; faults, runs, and the MiB it needed."""
    faults: list[dict[str, object]] = []
    for n in range(first, 10**6):
        out = directory / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        program, *arguments = ALL[name](directory / MODEL, out)
        with (directory / "log.txt").open("w+b") as log:
            code = limited([str(BIN / program), *arguments], n * step, log.fileno())
            log.seek(0)
            said = log.read().decode(errors="replace")
        status = -code if code < 0 else code << 8
        found = fault(status, said, os.listdir(out), may_run=True)  # noqa: PTH208
        if found:
            last = "".join(said.strip().splitlines()[-1:])[-300:]
            faults.append({"command": name, "mib": n * step, "fault": found, "last": last})
        if code == 0 or n * step > MOST_MIB:
            return faults, n - first + 1, n * step
    raise AssertionError


def main() -> None:
    """Make the files, run the commands, tell the faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=int, default=20, metavar="MIB", help="(default: %(default)s)")
    parser.add_argument("--commands", nargs="+", choices=list(ALL), default=list(ALL))
    args = parser.parse_args()
    began, n_faults, n_runs, needed = time.monotonic(), 0, 0, {}
    with tempfile.TemporaryDirectory(prefix="memory-") as root:
        source = make_checkpoint(Path(root) / "checkpoint", lora_rank=8)
        convert(source, Path(root) / MODEL, "f16")
        (Path(root) / "text.txt").write_text(TEXT)
        assert (Path(root) / ADAPTER).is_file()
        first = least(args.step)
        for name in args.commands:
            faults, n, needed[name] = runs(name, Path(root), args.step, first)
            n_runs += n
            for one in faults:
                n_faults += 1
                print(json.dumps(one), flush=True)
    summary = {"from_mib": first * args.step, "runs": n_runs, "faults": n_faults, "needed_mib": needed}
    print(json.dumps({**summary, "seconds": round(time.monotonic() - began, 1)}))
    sys.exit(1 if n_faults else 0)


if __name__ == "__main__":
    main()
