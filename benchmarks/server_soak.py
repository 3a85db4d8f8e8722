#!/usr/bin/env python3
"""Many clients on one server for a long time: no error, no answer that is another's, no memory lost.

python -m benchmarks.server_soak                                # 64 clients, 10 minutes
python -m benchmarks.server_soak --minutes 60
python -m benchmarks.server_soak --pictures --clients 16        # a random model with vision, and pictures
python -m benchmarks.server_soak --url 127.0.0.1:8080           # how long another server lets the same clients wait

Every client asks one of 48 questions (with pictures 72) in one of the modes, greedily, streamed or whole, 12 of them
with a JSON schema, and compares each answer with the one that the model gives alone in this process. Some leave in the
middle of a stream, some read slowly, and some ask for what must be refused; in the end a hundred are killed. Memory is
the server's resident set (Linux): after a fifth of the time, at the end, and after the hundred. Exits with 1 if
anything was wrong, or if memory grew by more than 3 %.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import common
from benchmarks.soak_client import PATIENCE, Soak, kill_clients, shares
from benchmarks.soak_questions import N_TEXTS, expected_answers, questions
from pytrimode.convert import convert
from pytrimode.files.shipped_model import shipped_gguf
from tests.support.vlm import make_vlm

N_SLOTS, N_CTX, N_KILLED = 8, 512, 100
"""The slots together need more than the context holds: now and then an answer pauses."""
MOST_GROWTH = 0.03
REPORTS = 12
"""How often memory is told."""


def resident_bytes(pid: int) -> int:
    """Linux: the memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def idle_in_the_end(address: str) -> bool:
    """Whether every slot is free again, and nothing waits."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        if all(f"llamacpp:requests_{name} 0.0" in text for name in ("processing", "deferred")):
            return True
        time.sleep(0.2)
    return False


@contextmanager
def model_file(*, pictures: bool) -> Iterator[Path]:
    """Return the shipped model, or a random one with vision."""
    if not pictures:
        yield shipped_gguf(print)
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as root:
        source = make_vlm(Path(root) / "vlm", lora_rank=4)
        yield convert(source, Path(root) / "vlm.gguf", "f32", mmproj_type="f32").path


@contextmanager
def serving(gguf: Path, args: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Run the server until the end of the block; its address and its process."""
    command = [
        sys.executable, "-m", "pytrimode", "serve", str(gguf), "--port", "0", "-t", "1", "-c", str(N_CTX),
        "-np", str(N_SLOTS), "--max-queue", str(2 * args.clients), *args.options,
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            lines = iter(server.stderr)
            found = next(filter(None, (re.search(r"http://(\S+)", line) for line in lines)))
            next(line for line in lines if "model loaded" in line)
            threading.Thread(target=lambda: [None for _ in lines], daemon=True).start()
            yield found[1], server.pid
        finally:
            server.terminate()


def run(soak: Soak, n_clients: int, minutes: float, measure: Callable[[], int]) -> list[int]:
    """Let the clients ask; what `measure` says, each second."""
    begin, seconds, told = time.monotonic(), int(60 * minutes), []
    clients = [threading.Thread(target=soak.client, args=(i,)) for i in range(n_clients)]
    for client in clients:
        client.start()
    for second in common.progress(range(seconds), f"{n_clients} clients", seconds):
        time.sleep(max(0.0, begin + second + 1 - time.monotonic()))
        told.append(measure())
        if (second + 1) % max(1, seconds // REPORTS) == 0:
            print(f"{(second + 1) / 60:.1f} min: {told[-1] / 2**20:.1f} MiB, {dict(soak.outcomes)}", flush=True)
    for client in clients:
        client.join()
    return told


def report(soak: Soak, args: argparse.Namespace) -> None:
    """Print what came of the requests."""
    n = soak.outcomes
    print(f"{args.clients} clients, {args.minutes:g} min, {sum(n.values())} requests: {n['right']} right, "
          f"{n['left']} left in the middle, {n['refused']} refused as they must be, {n['wrong']} wrong, "
          f"{n['errors']} errors")  # fmt: skip
    print(f"first text of streams, the wait for a slot included: {shares(soak.first_text)}")
    print(f"between two texts: {shares(soak.between)}")


def main() -> int:
    """Run, report, and say by the exit status whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--url", metavar="HOST:PORT", help="a server that runs; its answers are not compared")
    parser.add_argument("options", nargs="*", help="more options of `pytrimode serve`, behind --")
    args = parser.parse_args()
    asked = questions(pictures=args.pictures)
    if args.url:  # what any server takes
        plain = [{key: value for key, value in body.items() if key != "mode"} for body in asked[:N_TEXTS]]
        soak = Soak(args.url, plain, None, time.monotonic() + 60 * args.minutes)
        run(soak, args.clients, args.minutes, lambda: 0)
        report(soak, args)
        return 1 if soak.faults else 0
    with model_file(pictures=args.pictures) as gguf:
        expected = expected_answers(gguf, asked, N_CTX)
        with serving(gguf, args) as (address, pid):
            soak = Soak(address, asked, expected, time.monotonic() + 60 * args.minutes)
            memory = run(soak, args.clients, args.minutes, lambda: resident_bytes(pid))
            idle = idle_in_the_end(address)
            warm, end = memory[len(memory) // 5], resident_bytes(pid)
            kill_clients(address, asked[0], N_KILLED)
            idle = idle_in_the_end(address) and idle
            killed = resident_bytes(pid)
    report(soak, args)
    grown = [after / warm - 1 for after in (max(memory), end, killed)]
    print(f"memory {warm / 2**20:.1f} MiB after a fifth of the time, at most {100 * grown[0]:+.1f} %, in the end "
          f"{100 * grown[1]:+.1f} %, after {N_KILLED} killed clients {100 * grown[2]:+.1f} %; "
          f"{'idle' if idle else 'NOT IDLE'} afterwards")  # fmt: skip
    return 1 if soak.faults or max(grown[1:]) > MOST_GROWTH or not idle or not soak.outcomes["right"] else 0


if __name__ == "__main__":
    sys.exit(main())
