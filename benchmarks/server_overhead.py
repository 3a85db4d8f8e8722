"""What the server adds to a request, against the same steps in this process: time per token and to the first text.

    python -m benchmarks.server_overhead MODEL.gguf [ROUNDS]

Alternates between the two; prints medians with lowest and highest. The server is a process of its own, one client.
"""

from __future__ import annotations

import http.client
import json
import re
import statistics
import subprocess
import sys
import time

from pytrimode import TriMode
from pytrimode.options.generation_options import GenerationOptions

N_CTX, N_TOKENS = 1024, 200
PROMPTS = ["Write a Python function called add_two", "Sort these numbers: 7, 3, 9, 1", "Why is the sky blue?"]


def direct(model: TriMode, prompt: str, mode: str) -> tuple[float, float]:
    """Milliseconds to the first text, and per token from there to the end."""
    begin = time.perf_counter()
    options = GenerationOptions(max_tokens=N_TOKENS, mode=mode, ignore_eos=True)
    first = 0.0
    for step in model.steps(model.prompt_tokens(prompt), options):
        if step.text and not first:
            first = time.perf_counter()
    return 1e3 * (first - begin), 1e3 * (time.perf_counter() - first) / N_TOKENS


def served(address: str, prompt: str, mode: str) -> tuple[float, float]:
    """Return the same over HTTP, on a connection that is there."""
    connection = http.client.HTTPConnection(address)
    connection.connect()
    body = {"prompt": prompt, "max_tokens": N_TOKENS, "mode": mode, "ignore_eos": True, "temperature": 0.0}
    begin = time.perf_counter()
    connection.request(
        "POST", "/v1/completions", json.dumps(body | {"stream": True}), {"Content-Type": "application/json"}
    )
    response = connection.getresponse()
    first, last = 0.0, b""
    while line := response.readline():
        first = first or time.perf_counter()
        if line.startswith(b"data: {"):
            last = line
    end = time.perf_counter()
    connection.close()
    assert json.loads(last.removeprefix(b"data: "))["timings"]["predicted_n"] == N_TOKENS
    return 1e3 * (first - begin), 1e3 * (end - first) / N_TOKENS


def show(name: str, values: list[float], unit: str) -> None:
    """One line."""
    print(f"  {name:<14} {statistics.median(values):7.3f} {unit} ({min(values):.3f} to {max(values):.3f})")


def main() -> None:
    """Measure the modes one after another."""
    gguf, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 7
    command = [sys.executable, "-m", "pytrimode", "serve", gguf, "--port", "0", "-t", "1", "-c", str(N_CTX)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            found = re.search(r"http://(\S+)", server.stderr.readline())
            assert found and "model loaded" in server.stderr.readline()
            with TriMode(gguf, n_ctx=N_CTX, n_threads=1) as model:
                for mode in ("ar", "self-spec"):
                    pairs = [
                        (direct(model, prompt, mode), served(found[1], prompt, mode))
                        for _ in range(rounds)
                        for prompt in PROMPTS
                    ][len(PROMPTS) :]
                    print(f"mode {mode}, {len(pairs)} requests of {N_TOKENS} tokens each")
                    for i, what in enumerate(("first text", "per token")):
                        show(what, [own[i] for own, _ in pairs], "ms in this process")
                        show("", [http_[i] for _, http_ in pairs], "ms over HTTP")
                        show("", [http_[i] - own[i] for own, http_ in pairs], "ms added, pair by pair")
        finally:
            server.kill()


if __name__ == "__main__":
    main()
