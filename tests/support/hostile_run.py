"""Runs every command on hostile files, each in a process of its own with limits, and tells what went wrong.

    python -m tests.support.hostile_run --sample 60     # what the tests do
    python -m tests.support.hostile_run                 # all cases

A fault is a signal, a process that does not end, memory without end, a traceback, an error without text, or a file left
behind. Prints a line of JSON for each fault, and at last how many runs there were. Exits with 1 when there is a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import pytrimode.cli
import pytrimode.convert.cli
import pytrimode.quantize.cli
from pytrimode.convert import convert

from .hostile import ADAPTER, MODEL, Case, cases
from .synthetic import make_checkpoint

CPU_SECONDS, MEMORY_BYTES = 20, 3 << 30
TEXT = "The quick brown fox jumps over the lazy dog. " * 40
COMMANDS: dict[str, Callable[[Path, Path], Sequence[str]]] = {
    "info": lambda model, _: ("pytrimode", "info", str(model)),
    "plan": lambda model, _: ("pytrimode", "plan", str(model)),
    "run": lambda model, _: ("pytrimode", "generate", str(model), "-p", "Hi", "-n", "4", "-c", "128", "-t", "1"),
    "quantize": lambda model, out: ("trimode-quantize", str(model), f"{out}/q.gguf", "q8_0", "--allow-requantize"),
    "restore": lambda model, out: ("trimode-convert", "--to-safetensors", str(model), f"{out}/back"),
    "imatrix": lambda model, out: ("trimode-quantize", "imatrix", str(model), "-o", f"{out}/i.gguf", "-c", "64",
                                   "-f", f"{out}/../text.txt", "--chunks", "1", "-t", "1"),
}  # fmt: skip


def call(command: Sequence[str]) -> int:
    """Run a command in this process as its console script does; its exit code."""
    program, *arguments = command
    if program == "pytrimode":
        return pytrimode.cli.run(arguments)
    main = pytrimode.quantize.cli.main if program == "trimode-quantize" else pytrimode.convert.cli.main
    try:
        main.main(arguments, prog_name=program)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def child(command: Sequence[str], log: Path) -> int:
    """Fork, run the command with limits, its output in `log`; the status as `os.waitpid` gives it."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    with contextlib.suppress(BaseException):
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
        signal.alarm(6 * CPU_SECONDS)  # a process that waits for nothing
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = 99
        try:
            code = call(command)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    os._exit(98)


def fault(status: int, log: str, left: list[str], *, may_run: bool) -> str:
    """What is wrong with how a command ended; empty when nothing is."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"signal {signal.Signals(number).name}"
    code = os.WEXITSTATUS(status)
    if "Traceback (most recent call last)" in log:
        return "traceback"
    if code not in (0, 1):
        return f"exit code {code}"
    if code == 1 and not any(len(line) > 12 for line in log.splitlines() if line.lower().startswith("error")):
        return "no error is told"
    if code == 1 and left:
        return f"left behind: {left}"
    if code == 0 and not may_run:
        return "accepted"
    return ""


def run(case: Case, directory: Path, commands: Sequence[str]) -> list[dict[str, str]]:
    """Run the commands on a case; its faults."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, data in case.files.items():
        (directory / name).write_bytes(data())
    model = directory / (MODEL if MODEL in case.files else min(case.files))
    faults = []
    for name in commands:
        out = directory / f"out-{name}"
        out.mkdir()
        (directory / "text.txt").write_text(TEXT)
        log = directory / "log.txt"
        status = child(COMMANDS[name](model, out), log)
        said = log.read_text(errors="replace")
        # An adapter does not concern `info`, which tells of a file; a damaged one may be left out where it is no use.
        found = fault(status, said, os.listdir(out), may_run=case.is_runnable or name == "info")  # noqa: PTH208
        if found:
            last = said.strip().splitlines()[-1:]
            faults.append({"case": case.name, "command": name, "fault": found, "last": "".join(last)[-300:]})
    return faults


def main() -> None:
    """Make the files, run the commands, tell the faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="so many cases by chance (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and of changed bytes (default: %(default)s)")
    parser.add_argument(
        "--mutations", type=int, default=40, help="cases of bytes changed by chance (default: %(default)s)"
    )
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    args = parser.parse_args()
    began, n_faults, n_runs = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="hostile-") as root:
        source = make_checkpoint(Path(root) / "checkpoint", lora_rank=8)
        good = convert(source, Path(root) / MODEL, "f16")
        found = [c for c in cases(good.path, Path(root) / ADAPTER, args.seed, args.mutations) if args.only in c.name]
        whole = Case("nothing", {n: (Path(root) / n).read_bytes for n in (MODEL, ADAPTER)}, is_runnable=True)
        for case in [whole, *found[: args.sample]]:
            for one in run(case, Path(root) / "case", args.commands):
                n_faults += 1
                print(json.dumps(one), flush=True)
            n_runs += len(args.commands)
    print(json.dumps({"runs": n_runs, "faults": n_faults, "seconds": round(time.monotonic() - began, 1)}))
    sys.exit(1 if n_faults else 0)


if __name__ == "__main__":
    main()
