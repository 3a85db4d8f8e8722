"""How long products of weights with few rows take: our kernels and ggml's, by type, rows and set of kernels.

    python -m benchmarks.products [--types q8_0,q4_k] [--rows 1,8,16,32] [--kernels amx,avx2] [--shape 3072x9216]

One thread. Each round times every candidate once, interleaved; the weights are copied until they exceed what caches
hold. Printed: the median in milliseconds per 100 million weights, lowest and highest in brackets, t(rows)/t(1), and how
many times as fast as ggml with its own repacked layout, where it has one for the type (*), else its plain kernels.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from pytrimode import _native

TYPES = "q8_0,q4_0,q4_k,q5_k,q6_k,iq4_xs,f16"
PER_WEIGHTS = 1e8


def each(weights: list[Any], *arguments: object) -> None:
    """Compute the product with every copy of the weights."""
    for weight in weights:
        weight.multiply(*arguments)


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def measure(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round, the first, which warms up, left out."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for i in range(rounds + 1):
        for name, run in candidates.items():
            seconds = timed(run)
            if i > 0:
                times[name].append(seconds)
    return times


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--rows", default="1,4,8,16,32")
    parser.add_argument("--kernels", default=_native.product_kernels()[0])
    parser.add_argument("--shape", default="3072x9216", help="columns x outputs")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    n_in, n_out = map(int, arguments.shape.split("x"))
    rows = [int(n) for n in arguments.rows.split(",")]
    scale = 1e3 * PER_WEIGHTS / (n_in * n_out * arguments.copies)
    values = np.random.default_rng(1).normal(0.0, 0.05, (n_out, n_in)).astype(np.float32)
    print(f"{n_in} x {n_out}, {arguments.copies} copies, 1 thread, ms per 1e8 weights, {arguments.rounds} rounds")
    for type_name in arguments.types.split(","):
        data = _native.encode(values.tobytes(), "f32", type_name, n_in, os.cpu_count() or 1)
        ours = [_native.PackedWeight(type_name, data, n_in, n_out) for _ in range(arguments.copies)]
        theirs = [_native.GgmlProduct(type_name, data, n_in, n_out, repack=True) for _ in range(arguments.copies)]
        ggml = "ggml*" if theirs[0].is_repacked else "ggml"
        first: dict[str, float] = {}
        for n_rows in rows:
            x = np.random.default_rng(2).normal(0.0, 1.0, (n_rows, n_in)).astype(np.float32)
            candidates: dict[str, Callable[[], object]] = {ggml: partial(each, theirs, x)}
            for kernels in arguments.kernels.split(","):
                candidates[kernels] = partial(each, ours, x, kernels)
            times = measure(candidates, arguments.rounds)
            base = statistics.median(times[ggml])
            for name, seconds in times.items():
                median = statistics.median(seconds)
                first.setdefault(name, median)
                print(
                    f"{type_name:7} {n_rows:4} rows  {name:12} {median * scale:8.2f} "
                    f"({min(seconds) * scale:.2f} to {max(seconds) * scale:.2f})  "
                    f"t/t(1) {median / first[name]:5.2f}  {base / median:5.2f} x ggml",
                    flush=True,
                )


if __name__ == "__main__":
    main()
