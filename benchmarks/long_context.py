#!/usr/bin/env python3
"""Long prompts: prefill against stock llama-cpp-python in the same run, memory, and what a quantized cache changes.

python -m benchmarks.long_context                              # the shipped model, 4,096 and 16,384 tokens
python -m benchmarks.long_context nld-3b.gguf --tokens 32768 --rounds 1

Both engines read the same tokens in passes of 512, in turns; the table shows the median ratio of their speeds over the
rounds, with lowest and highest. A quantized cache is held against F16 on the last 512 rows: relative root mean square
difference of the logits, mean Kullback-Leibler divergence, rows with the same most likely token.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from llama_cpp import Llama
from numpy.typing import NDArray

from pytrimode import TriMode
from pytrimode.files.shipped_model import shipped_gguf

CACHES = ("f16", "q8_0", "q5_1", "q4_0")
COMPARED = 512


def some_tokens(model: TriMode, n: int, seed: int = 0) -> list[int]:
    """Return sums, one after the other: text that a model has an opinion on. Other seeds begin with another token."""
    rng, out = np.random.default_rng(seed), model.tokenize(f"{seed}\n".encode())
    while len(out) < n:
        a, b = (int(x) for x in rng.integers(10, 99, 2))
        text = (
            f"<|im_start|>user\nWhat is {a} + {b}?<|im_end|>\n<|im_start|>assistant\n{a} + {b} = {a + b}.<|im_end|>\n"
        )
        out += model.tokenize(text.encode(), add_bos=False, special=True)
    return out[:n]


def prefill(model: TriMode, tokens: list[int]) -> float:
    """Tokens per second of reading a prompt that is not in the cache."""
    result = model.create_completion(tokens, max_tokens=1, mode="ar", temperature=0.0)
    timings = result["timings"]
    if timings["prompt_n"] < len(tokens) - 1:
        raise RuntimeError("part of the prompt came from the cache")
    return timings["prompt_n"] / timings["prompt_ms"] * 1e3


def stock_prefill(llama: Llama, tokens: list[int]) -> float:
    """Return the same by llama.cpp."""
    llama.reset()
    began = time.perf_counter()
    llama.eval(tokens)
    return len(tokens) / (time.perf_counter() - began)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """[n, vocab]."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def speeds(gguf: Path, n: int, rounds: int, threads: int) -> None:
    """Print a line: the ratio of the prefill speeds."""
    model = TriMode(gguf, n_ctx=n + 64, n_threads=threads, lora_path=None)
    llama = Llama(
        str(gguf), n_ctx=n + 64, n_batch=512, n_threads=threads, n_threads_batch=threads, flash_attn=True, verbose=False
    )
    prompts = [some_tokens(model, n, seed) for seed in range(rounds)]
    ratios = [prefill(model, tokens) / stock_prefill(llama, tokens) for tokens in prompts]
    memory = model.memory
    model.close()
    llama.close()
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    sizes = " | ".join(f"{memory[part] / 2**20:.1f} MiB" for part in ("kv_cache", "compute"))
    print(f"| {n:,} | {statistics.median(ratios):.2f}x ({spread}) | {sizes} |", flush=True)


def divergence(gguf: Path, n: int, threads: int) -> None:
    """Lines: each type of cache against F16."""
    reference = None
    for cache in CACHES:
        with TriMode(gguf, n_ctx=n, n_threads=threads, type_k=cache, type_v=cache, lora_path=None) as model:
            rows = model.logits(some_tokens(model, n))[-COMPARED:]
        if reference is None:
            reference = rows
            continue
        error = np.linalg.norm(rows - reference) / np.linalg.norm(reference)
        p, q = log_softmax(reference), log_softmax(rows)
        kl = float((np.exp(p) * (p - q)).sum(-1).mean())
        same = float((rows.argmax(-1) == reference.argmax(-1)).mean())
        print(f"| {n:,} | {cache} | {error:.1e} | {kl:.1e} | {same:.1%} |", flush=True)


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="GGUF file (default: the shipped model as Q8_0)")
    parser.add_argument("--tokens", type=int, nargs="+", default=[4096, 16384], help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("-t", "--threads", type=int, default=1, help="(default: %(default)s)")
    args = parser.parse_args()
    gguf = args.model or shipped_gguf(print)
    print("| tokens | prefill against llama.cpp (lowest to highest) | cache | compute buffers |\n|---|---|---|---|")
    for n in args.tokens:
        speeds(gguf, n, args.rounds, args.threads)
    print("\n| tokens | cache | logits against F16 | KL divergence | same token |\n|---|---|---|---|---|")
    for n in args.tokens:
        divergence(gguf, n, args.threads)


if __name__ == "__main__":
    main()
