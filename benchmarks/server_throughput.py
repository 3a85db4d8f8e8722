#!/usr/bin/env python3
"""Total tokens per second with streaming clients: `pytrimode serve` against llama-cpp-python's own server, on one file.

pip install "llama-cpp-python[server]" && python -m benchmarks.server_throughput
python -m benchmarks.server_throughput --model nld-8b-q8_0.gguf --clients 8 --rounds 5 -- -ngl all

Both servers run all the time, with the same context and threads, and take turns within each round: the ratio is that of
one round, so that a busy machine slows both. Every client asks its prompts one after another, greedily and streamed;
each begins with x
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import common
from pytrimode.bench.prompts import PROMPTS
from pytrimode.files.shipped_model import shipped_gguf
from pytrimode.options.modes import AR, AUTO, SELF_SPEC

PATIENCE = 300.0
EVENT = re.compile(rb"^data: (\{.*\})\r?$", re.MULTILINE)
MODES = (AUTO, SELF_SPEC, AR)
STOCK = "llama-cpp-python"
QUESTIONS = [text for texts in zip(*(PROMPTS[name] for name in ("code", "chat", "maths", "lists")), strict=True)
             for text in texts]  # fmt: skip


class Contender:
    """A server in one of its modes, and its answers to all questions, asked one by one."""

    def __init__(self, name: str, port: int, max_tokens: int, fields: dict[str, Any]) -> None:
        self.name = name
        self._port = port
        self._fields = {"max_tokens": max_tokens, "temperature": 0.0, **fields}
        whole = [self._whole(question) for question in QUESTIONS]
        self.texts = [answer["choices"][0]["message"]["content"] for answer in whole]
        self._tokens = [int(answer["usage"]["completion_tokens"]) for answer in whole]

    def round(self, n_clients: int, n_questions: int) -> float:
        """Tokens per second of all clients together. Raises RuntimeError for an answer that is not the one expected."""
        shares = [[(number * 5 + i) % len(QUESTIONS) for i in range(n_questions)] for number in range(n_clients)]

        async def client(number: int) -> dict[int, bytes]:
            return {i: await self._stream(QUESTIONS[i]) for i in shares[number]}

        async def crowd() -> list[dict[int, bytes]]:
            return await asyncio.gather(*map(client, range(n_clients)))

        begin = time.perf_counter()
        answers = asyncio.run(crowd())
        seconds = time.perf_counter() - begin
        for i, data in (item for answer in answers for item in answer.items()):
            if (text := _text_of(data)) != self.texts[i]:
                raise RuntimeError(f"{self.name}, {QUESTIONS[i]!r}: {text!r} instead of {self.texts[i]!r}")
        return sum(self._tokens[i] for share in shares for i in share) / seconds

    def _body(self, question: str, *, stream: bool) -> bytes:
        return json.dumps(
            {"messages": [{"role": "user", "content": question}], "stream": stream, **self._fields}
        ).encode()

    def _whole(self, question: str) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/v1/chat/completions",
            self._body(question, stream=False),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return json.load(response)

    async def _stream(self, question: str) -> bytes:
        """Return what came as it is: a client that parses would take time from the server, which has the same cores."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        body = self._body(question, stream=True)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        data = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        return data


def _text_of(data: bytes) -> str:
    """Return the answer in the events of a stream; each is within one piece of the chunked encoding."""
    deltas = (json.loads(event)["choices"][0]["delta"] for event in EVENT.findall(data))
    return "".join(delta.get("content") or "" for delta in deltas)


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, ready, until the end of the block. Raises RuntimeError for one that does not get ready."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + PATIENCE
            while not _answers(port):
                if server.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"it does not run: {' '.join(command)}")
                time.sleep(0.1)
            yield server
        finally:
            server.terminate()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=PATIENCE):
            return True
    except (urllib.error.URLError, OSError):
        return False


def ours(gguf: Path, port: int, args: argparse.Namespace) -> list[str]:
    """Our server's command."""
    return [
        sys.executable, "-m", "pytrimode", "serve", str(gguf), "--port", str(port), "-t", str(args.threads),
        "-c", str(args.ctx), "-np", str(args.clients), *args.options,
    ]  # fmt: skip


def stock(gguf: Path, port: int, args: argparse.Namespace) -> list[str]:
    """Its command; by default a new request would cut the one that is being streamed."""
    return [
        sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--port", str(port),
        "--n_threads", str(args.threads), "--n_threads_batch", str(args.threads), "--n_ctx", str(args.ctx),
        "--n_gpu_layers", str(args.stock_gpu_layers), "--flash_attn", "true", "--interrupt_requests", "false",
        "--verbose", "false",
    ]  # fmt: skip


def spread(values: Sequence[float], digits: int) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    """Run the rounds, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="GGUF file (default: the shipped checkpoint as Q8_0)")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--questions", type=int, default=12, help=f"of each client, at most {len(QUESTIONS)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ctx", type=int, default=4096, help="tokens, shared by our slots")
    parser.add_argument("--port", type=int, default=8910, help="this and the next one must be free")
    parser.add_argument("--stock-gpu-layers", type=int, default=0)
    parser.add_argument("options", nargs="*", help="more options of `pytrimode serve`, behind --")
    args = parser.parse_args()
    gguf = args.model or shipped_gguf(print)
    with ExitStack() as stack:
        stack.enter_context(running(ours(gguf, args.port, args), args.port))
        stack.enter_context(running(stock(gguf, args.port + 1, args), args.port + 1))
        contenders = [Contender(f"pytrimode {mode}", args.port, args.max_tokens, {"mode": mode}) for mode in MODES]
        contenders.append(Contender(STOCK, args.port + 1, args.max_tokens, {}))
        results: dict[str, list[float]] = {one.name: [] for one in contenders}
        for number in common.progress(range(args.rounds + 1), "rounds", args.rounds + 1):
            for one in contenders:
                rate = one.round(args.clients, args.questions)
                if number:  # the first warms up
                    results[one.name].append(rate)
    same = sum(a == b for a, b in zip(contenders[0].texts, contenders[-1].texts, strict=True))
    print(f"{gguf.name}: {args.clients} clients, {args.threads} threads, {args.rounds} rounds of "
          f"{args.clients * args.questions} answers of at most {args.max_tokens} tokens; "
          f"{same} of {len(QUESTIONS)} are the same in both servers\n")  # fmt: skip
    print(f"| server | tokens/s, median (lowest to highest) | x {STOCK} |\n|---|---:|---:|")
    for one in contenders:
        ratios = [a / b for a, b in zip(results[one.name], results[STOCK], strict=True)]
        print(f"| {one.name} | {spread(results[one.name], 0)} | {spread(ratios, 2)} |")


if __name__ == "__main__":
    main()
