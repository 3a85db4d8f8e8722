#!/usr/bin/env python3
"""Many clients on one server for a long time: no error, no answer that is another's, no memory lost.

python -m benchmarks.server_soak                 # 64 clients, 10 minutes
python -m benchmarks.server_soak --minutes 1     # the short form

Every client asks one of 48 questions in one of the modes, greedily, streamed or whole, and compares each answer with
the one that the model gives alone in this process. Some leave in the middle of a stream, some read slowly, and some ask
for what must be refused. Memory is the server's resident set (Linux): after a fifth of the time, and at the end. Exits
with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import common
from pytrimode import TriMode
from pytrimode.files.shipped_model import shipped_gguf
from pytrimode.options.modes import AUTO, MODES

N_SLOTS, N_CTX, N_TOKENS, N_QUESTIONS = 8, 512, 24, 48
"""The slots together need more than the context holds: now and then an answer pauses."""
ALL_MODES = (*MODES, AUTO)
LEAVES, STREAMS, SLOW, BAD = 0.1, 0.7, 0.05, 0.05
"""Shares of the requests."""
SLOW_SECONDS = 0.05
"""What a slow reader waits after each event."""
BAD_BODIES: tuple[tuple[bytes, int], ...] = (
    (b"{", 400),
    (b'{"messages": []}', 400),
    (b'{"messages": [{"role": "user", "content": "a"}], "temperature": -1}', 400),
    (b'{"messages": [{"role": "user", "content": "a"}], "grammar": "root ::= ("}', 400),
    (b'{"messages": [{"role": "user", "content": "' + b"word " * 4000 + b'"}]}', 400),
)
"""With the status that each must get."""
MOST_GROWTH = 0.05
PATIENCE = 600.0
"""Seconds: the server's own limit for an answer."""


def questions() -> list[tuple[str, str]]:
    """Prompts of different lengths and beginnings, each with a mode."""
    numbers = random.Random(1)
    return [
        (
            f"Sort these numbers: {', '.join(str(numbers.randrange(100)) for _ in range(2 + i % 12))}",
            ALL_MODES[i % len(ALL_MODES)],
        )
        for i in range(N_QUESTIONS)
    ]


def body_of(prompt: str, mode: str) -> dict[str, Any]:
    """Return a request whose answer is always the same."""
    return {"messages": [{"role": "user", "content": prompt}], "mode": mode, "max_tokens": N_TOKENS, "temperature": 0.0}


def expected_answers(gguf: Path) -> list[str]:
    """Made one by one, each by a cache that has seen the ones before it."""
    with TriMode(gguf, n_ctx=N_CTX, n_threads=1) as model:
        results: list[Any] = [model.create_chat_completion(**body_of(*question)) for question in questions()]
    return [result["choices"][0]["message"]["content"] for result in results]


class Soak:
    """The clients, and what came of their requests."""

    def __init__(self, address: str, expected: list[str], end: float) -> None:
        self._address = address
        self._expected = expected
        self._end = end
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []
        self.first_text: list[float] = []
        """Seconds from a streamed request to its first text."""

    def client(self, number: int) -> None:
        """Ask until the time is over."""
        choice = random.Random(number)
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        while time.monotonic() < self._end:
            i = choice.randrange(N_QUESTIONS)
            streams, leaves = choice.random() < STREAMS, choice.random() < LEAVES
            try:
                if choice.random() < BAD:
                    self._ask_badly(connection, *choice.choice(BAD_BODIES))
                    self._count("refused")
                    continue
                pause = SLOW_SECONDS if choice.random() < SLOW else 0.0
                text = self._ask(connection, i, streams or leaves, choice.randrange(4) if leaves else None, pause)
            except Exception as error:  # whatever it is, it is what this script looks for
                connection.close()
                self._count("errors", f"client {number}: {type(error).__name__}: {error}")
                continue
            if text is None:
                connection.close()
                self._count("left")
            elif text == self._expected[i]:
                self._count("right")
            else:
                self._count("wrong", f"client {number}, question {i}: {text!r} instead of {self._expected[i]!r}")
        connection.close()

    def _ask_badly(self, connection: http.client.HTTPConnection, body: bytes, expected: int) -> None:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if response.status != expected or b'"error"' not in text:
            raise RuntimeError(f"{body[:60]!r}: {response.status} instead of {expected}: {text[:300]!r}")

    def _ask(
        self, connection: http.client.HTTPConnection, i: int, stream: bool, leave_after: int | None, pause: float
    ) -> str | None:
        """Return the answer; None where the client left it. `pause`: seconds after each event."""
        begin = time.monotonic()
        body = body_of(*questions()[i]) | {"stream": stream}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read(300)!r}")
        if not stream:
            return str(json.load(response)["choices"][0]["message"]["content"])
        text, done = "", False
        for n, line in enumerate(line for line in response if line.startswith(b"data: ")):
            if n == leave_after:
                return None
            data = line.removeprefix(b"data: ").strip()
            if done := data == b"[DONE]":
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                raise RuntimeError(str(chunk))
            if not text and chunk["choices"][0]["delta"].get("content"):
                self.first_text.append(time.monotonic() - begin)
            text += chunk["choices"][0]["delta"].get("content", "")
            time.sleep(pause)
        if not done:
            raise RuntimeError("the stream ended early")
        return text

    def _count(self, outcome: str, fault: str = "") -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            if fault:
                self.faults.append(fault)


def resident_bytes(pid: int) -> int:
    """Linux: the memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def idle_in_the_end(address: str) -> bool:
    """Whether every slot is free again, and nothing waits."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        if all(f"llamacpp:requests_{name} 0.0" in text for name in ("processing", "deferred")):
            return True
        time.sleep(0.2)
    return False


def main() -> int:
    """Run, report, and say by the exit status whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("options", nargs="*", help="more options of `pytrimode serve`, behind --")
    args = parser.parse_args()
    gguf = shipped_gguf(print)
    expected = expected_answers(gguf)
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
            begin = time.monotonic()
            soak = Soak(found[1], expected, begin + 60 * args.minutes)
            clients = [threading.Thread(target=soak.client, args=(i,)) for i in range(args.clients)]
            for client in clients:
                client.start()
            warm, seconds = 0, int(60 * args.minutes)
            for second in common.progress(range(seconds), f"{args.clients} clients", seconds):
                time.sleep(max(0.0, begin + second + 1 - time.monotonic()))
                warm = warm or (resident_bytes(server.pid) if second >= seconds // 5 else 0)
            for client in clients:
                client.join()
            grown = resident_bytes(server.pid) / warm - 1
            idle = idle_in_the_end(found[1])
        finally:
            server.terminate()
    outcomes = soak.outcomes
    for fault in soak.faults[:5]:
        print(fault)
    print(f"{args.clients} clients, {args.minutes:g} min, {sum(outcomes.values())} answers: {outcomes['right']} right, "
          f"{outcomes['left']} left in the middle, {outcomes['refused']} refused as they must be, "
          f"{outcomes['wrong']} wrong, {outcomes['errors']} errors")  # fmt: skip
    print(f"memory {warm / 2**20:.0f} MiB after a fifth of the time, {100 * grown:+.1f} % in the end; "
          f"{'idle' if idle else 'NOT IDLE'} afterwards")  # fmt: skip
    times = sorted(soak.first_text)
    if times:
        shares = ", ".join(f"p{p} {times[min(len(times) - 1, len(times) * p // 100)]:.2f} s" for p in (50, 99))
        print(f"first text of streams, the wait for a slot included: {shares}")
    return 1 if soak.faults or grown > MOST_GROWTH or not idle or not outcomes["right"] else 0


if __name__ == "__main__":
    sys.exit(main())
