"""How fast prompts are read, against llama-cpp-python on the same file, with and without its flash attention.

    python tools/random_model.py 3B q8_0 /tmp/random.gguf --layers 6
    python benchmarks/prefill.py /tmp/random.gguf --tokens 512 4096 --threads 2

The three take turns. Printed, as a table in Markdown: tokens per second (median, lowest and highest in brackets) and
pytrimode's against the better of the other two, round by round.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from statistics import median

from llama_cpp import Llama

from pytrimode import TriMode

ENGINES = ("pytrimode", "llama.cpp", "llama.cpp, flash attention")


def ours(path: str, n_ctx: int, threads: int) -> Callable[[list[int]], None]:
    """Read a prompt with pytrimode."""
    model = TriMode(path, n_ctx=n_ctx, n_threads=threads, n_threads_batch=threads)

    def read(tokens: list[int]) -> None:
        model.clear_cache()
        model.create_completion(tokens, mode="ar", max_tokens=1, temperature=0)

    return read


def theirs(path: str, n_ctx: int, threads: int, flash: bool) -> Callable[[list[int]], None]:
    """Read a prompt with llama-cpp-python."""
    model = Llama(path, n_ctx=n_ctx, n_threads=threads, n_threads_batch=threads, flash_attn=flash, verbose=False)

    def read(tokens: list[int]) -> None:
        model.reset()
        model.eval(tokens)

    return read


def told(values: list[float], digits: int = 0) -> str:
    """Median, lowest and highest."""
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    n_ctx = max(arguments.tokens) + 64
    readers = dict(
        zip(
            ENGINES,
            (
                ours(arguments.model, n_ctx, arguments.threads),
                theirs(arguments.model, n_ctx, arguments.threads, flash=False),
                theirs(arguments.model, n_ctx, arguments.threads, flash=True),
            ),
            strict=True,
        )
    )
    print(f"tokens/s of prompts, {arguments.threads} threads, {arguments.rounds} rounds\n")
    print(f"| tokens | {' | '.join(ENGINES)} | pytrimode against the better one |\n|---|---|---|---|---|")
    for n in arguments.tokens:
        speeds: dict[str, list[float]] = {name: [] for name in ENGINES}
        for i in range(arguments.rounds + 1):
            tokens = random.Random(i).choices(range(1000, 100000), k=n)
            for name, read in readers.items():
                begin = time.perf_counter()
                read(tokens)
                if i > 0:  # the first round warms up
                    speeds[name].append(n / (time.perf_counter() - begin))
        ratios = [own / max(others) for own, *others in zip(*speeds.values(), strict=True)]
        print(f"| {n} | {' | '.join(told(speeds[name]) for name in ENGINES)} | {told(ratios, 2)}x |", flush=True)


if __name__ == "__main__":
    main()
