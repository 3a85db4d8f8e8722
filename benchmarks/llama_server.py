#!/usr/bin/env python3
"""`pytrimode serve` beside llama.cpp's own server on one file: how long clients wait, with one, eight and 32 of them.

python -m benchmarks.llama_server --llama-server llama.cpp/build/bin/llama-server
python -m benchmarks.llama_server --llama-server PATH --model nld-3b-q8_0.gguf --threads 8 --rounds 5
python -m benchmarks.llama_server --llama-server PATH --ngram       # answers that copy: drafts read off the text

All servers run all the time, with the same slots, context and threads, and take turns within each round. Every client
asks its prompts one after another in mode ar, greedily and streamed, and notes when each text came. With --ngram one
client asks the 20 prompts of the category copy-edit, of each server without and with drafts that are read off the text:
ours chooses their length (mode auto), llama-server has --spec-default.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.server_soak import resident_bytes
from benchmarks.server_throughput import PATIENCE, QUESTIONS, running, spread
from pytrimode.bench.prompts import PROMPTS
from pytrimode.files.shipped_model import shipped_gguf
from pytrimode.options.modes import AR, AUTO

COPIES = PROMPTS["copy-edit"]


@dataclass
class Waits:
    """What the clients of one server saw in one round; times in seconds."""

    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    n_tokens: int = 0
    n_drafted: int = 0
    n_accepted: int = 0
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Tokens per second of all clients together."""
        return self.n_tokens / self.seconds


@dataclass
class Server:
    """A server that runs, and what its requests say beside the question."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    fields: dict[str, Any]
    rounds: list[Waits] = field(default_factory=list)

    def round(self, questions: Sequence[Sequence[str]], max_tokens: int) -> Waits:
        """Let one client for each list of questions ask them one after another."""
        waits = Waits()

        async def client(own: Sequence[str]) -> None:
            for question in own:
                try:
                    await asyncio.wait_for(self._ask(question, max_tokens, waits), PATIENCE)
                except (OSError, ValueError, KeyError, TimeoutError, asyncio.TimeoutError) as error:
                    waits.errors.append(f"{self.name}: {type(error).__name__}: {error}")

        async def crowd() -> None:
            await asyncio.gather(*map(client, questions))

        begin = time.perf_counter()
        asyncio.run(crowd())
        waits.seconds = time.perf_counter() - begin
        return waits

    async def _ask(self, question: str, max_tokens: int, waits: Waits) -> None:
        messages = [{"role": "user", "content": question}]
        asked = {"messages": messages, "max_tokens": max_tokens, "temperature": 0.0, "stream": True, **self.fields}
        body = json.dumps(asked).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        begin, last, timings = time.perf_counter(), 0.0, None
        try:
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            async for line in reader:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line.removeprefix(b"data: "))
                if "error" in chunk:
                    raise ValueError(str(chunk["error"]))
                timings = chunk.get("timings") or timings
                deltas = [choice["delta"] for choice in chunk["choices"]]
                if not any(delta.get("content") or delta.get("reasoning_content") for delta in deltas):
                    continue
                now = time.perf_counter()
                (waits.gaps if last else waits.first).append(now - (last or begin))
                last = now
        finally:
            writer.close()
        if timings is None:
            raise ValueError("the stream ended early")
        waits.n_tokens += timings["predicted_n"]
        waits.n_drafted += timings.get("draft_n") or 0
        waits.n_accepted += timings.get("draft_n_accepted") or 0


def servers(stack: ExitStack, gguf: Path, args: argparse.Namespace) -> list[Server]:
    """Start them: ours, llama-server, and with --ngram one more of these that drafts."""
    shared = ["--port", "{port}", "-t", str(args.threads), "-c", str(args.ctx), "-np", str(args.slots)]
    ours = [sys.executable, "-m", "pytrimode", "serve", str(gguf), *shared, "--max-queue", "1000", *args.options]
    theirs = [args.llama_server, "-m", str(gguf), *shared, "--kv-unified", "--no-webui", "-ngl", "0"]
    found: list[Server] = []
    ports = itertools.count(args.port)

    def add(name: str, command: Sequence[str], **fields: Any) -> None:
        port = next(ports)
        process = stack.enter_context(running([part.format(port=port) for part in command], port))
        found.append(Server(name, port, process, fields))

    add("pytrimode ar", ours, mode=AR)
    add("llama-server", theirs)
    if args.ngram:
        found.append(Server("pytrimode auto, its n-grams", args.port, found[0].process, {"mode": AUTO}))
        add("llama-server --spec-default", [*theirs, "--spec-default"])
    return found


def percentile(values: Sequence[float], p: int) -> float:
    """Of times, in milliseconds."""
    return 1000 * sorted(values)[min(len(values) - 1, len(values) * p // 100)] if values else float("nan")


def report_waits(found: Sequence[Server], n_clients: int) -> None:
    """Print a line of the table for each server."""
    for one in found:
        first = [wait for waits in one.rounds for wait in waits.first]
        gaps = [wait for waits in one.rounds for wait in waits.gaps]
        print(f"| {n_clients} | {one.name} | {percentile(first, 50):.0f} / {percentile(first, 99):.0f} | "
              f"{percentile(gaps, 50):.1f} / {percentile(gaps, 99):.1f} | "
              f"{spread([waits.rate for waits in one.rounds], 0)} | "
              f"{spread([a.rate / b.rate for a, b in zip(one.rounds, found[1].rounds, strict=True)], 2)} | "
              f"{resident_bytes(one.process.pid) / 2**20:.0f} | "
              f"{sum(len(waits.errors) for waits in one.rounds)} |")  # fmt: skip


def report_ngrams(found: Sequence[Server]) -> None:
    """Print how much faster each server is than itself without drafts."""
    print("| server | tokens/s, median (lowest to highest) | x its own without drafts | drafted | accepted |")
    print("|---|---:|---:|---:|---:|")
    for one, plain in zip(found, [*found[:2], *found[:2]], strict=True):
        ratios = [a.rate / b.rate for a, b in zip(one.rounds, plain.rounds, strict=True)]
        print(f"| {one.name} | {spread([waits.rate for waits in one.rounds], 0)} | {spread(ratios, 2)} | "
              f"{sum(waits.n_drafted for waits in one.rounds)} | "
              f"{sum(waits.n_accepted for waits in one.rounds)} |")  # fmt: skip


def main() -> int:
    """Run the rounds, print a table; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-server", required=True, metavar="PATH", help="its program")
    parser.add_argument("--model", type=Path, help="GGUF file (default: the shipped checkpoint as Q8_0)")
    parser.add_argument("--ngram", action="store_true", help="drafts that are read off the text, instead of crowds")
    parser.add_argument("--clients", default="1,8,32", help="how many, by commas (default: %(default)s)")
    parser.add_argument("--questions", type=int, default=6, help="of each client (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ctx", type=int, default=8192, help="tokens, shared by the slots")
    parser.add_argument("--port", type=int, default=8920, help="this and the next ones must be free")
    parser.add_argument("options", nargs="*", help="more options of `pytrimode serve`, behind --")
    args = parser.parse_args()
    gguf = args.model or shipped_gguf(print)
    errors: list[str] = []
    crowds = [1] if args.ngram else [int(n) for n in args.clients.split(",")]
    with ExitStack() as stack:
        found = servers(stack, gguf, args)
        if not args.ngram:
            print(f"{gguf.name}: {args.slots} slots, {args.threads} threads\n")
            print("| clients | server | first text, p50 / p99, ms | between texts, p50 / p99, ms | "
                  "tokens/s, median (lowest to highest) | x llama-server | RSS, MiB | errors |")  # fmt: skip
            print("|---:|---|---:|---:|---:|---:|---:|---:|")
        for n_clients in crowds:
            asked = [[QUESTIONS[(n * 5 + i) % len(QUESTIONS)] for i in range(args.questions)] for n in range(n_clients)]
            for one in found:
                one.rounds.clear()
                one.round([COPIES[:4]] if args.ngram else asked[:1], args.max_tokens)  # warms up
            for _ in common.progress(range(args.rounds), f"{n_clients} clients", args.rounds):
                for one in found:
                    one.rounds.append(one.round([COPIES] if args.ngram else asked, args.max_tokens))
            errors += [error for one in found for waits in one.rounds for error in waits.errors]
            if args.ngram:
                report_ngrams(found)
            else:
                report_waits(found, n_clients)
    print("\n".join(errors))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
