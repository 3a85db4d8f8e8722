"""Attention of one layer on the CPU, pytrimode's against ggml's over the same cells, in one run.

Prints a table in Markdown: milliseconds of ggml's flash attention and of its products of matrices (what llama.cpp runs
without flash attention; not for quantized caches), of ours, how many times faster ours is than the better one, and what
so many rows cost against one. Rounds are interleaved; medians, in brackets the lowest and highest.
The shape is that of the 3B model: 32 heads on 8, head_dim 128.

    python -m benchmarks.attention --cells 4096 16384 --rows 1 8 16 32 --types f16 q8_0 --threads 1
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median

import numpy as np

from pytrimode import _native

SHAPE = {"n_head": 32, "n_head_kv": 8, "head_dim": 128}


def random_cells(n_cells: int, cache_type: str, seed: int) -> bytes:
    """Keys or values of so many cells, in the type of the cache."""
    width = SHAPE["n_head_kv"] * SHAPE["head_dim"]
    cells = np.random.default_rng(seed).standard_normal((n_cells, width), dtype=np.float32)
    return cells.tobytes() if cache_type == "f32" else _native.encode(cells, "f32", cache_type, width, 0)


def times(probe: _native.AttentionProbe, runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each run in each round, after one that is not counted."""
    measured: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            run()
            if i > 0:
                measured[name].append(1e3 * probe.seconds)
    return measured


def told(values: list[float]) -> str:
    """Median, lowest and highest."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""


def bench(cache_type: str, n_cells: int, all_rows: list[int], args: argparse.Namespace) -> None:
    """Print the table's lines of one cache type and length."""
    probe = _native.AttentionProbe(
        random_cells(n_cells, cache_type, 1), random_cells(n_cells, cache_type, 2), type_k=cache_type,
        type_v=cache_type, n_threads=args.threads, kernel=args.kernel, **SHAPE,
    )  # fmt: skip
    pages = [list(range(n_cells // 64))]
    one = 0.0
    for n in all_rows:
        q = np.random.default_rng(n).standard_normal((n, SHAPE["n_head"], SHAPE["head_dim"]), dtype=np.float32)
        seen = [n_cells - n + 1 + i for i in range(n)]
        rows = [(0, s, 0, 0) for s in seen]
        runs: dict[str, Callable[[], object]] = {
            "flash": lambda q=q, seen=seen: probe.run_ggml(q, seen),  # type: ignore[misc]
            "ours": lambda q=q, rows=rows: probe.run(q, pages, rows),  # type: ignore[misc]
        }
        if cache_type in ("f32", "f16", "bf16"):
            runs["products"] = lambda q=q, seen=seen: probe.run_ggml(q, seen, flash=False)  # type: ignore[misc]
        got = times(probe, runs, args.rounds)
        ours = median(got["ours"])
        one = one or ours
        faster = min(median(values) for name, values in got.items() if name != "ours") / ours
        cells = [told(got.get(name, [])) for name in ("flash", "products", "ours")]
        print(
            f"| {cache_type} | {n_cells} | {n} | {' | '.join(cells)} | {faster:.2f}x | {ours / one:.2f}x |", flush=True
        )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[4096, 16384], help="multiples of 64")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--types", nargs="+", default=["f16", "q8_0"], help="of the cache")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kernel", default="", help=f"one of {', '.join(_native.attention_kernels())}")
    args = parser.parse_args()
    if any(n < 64 or n % 64 for n in args.cells):
        parser.error("--cells: multiples of 64")
    print(f"{args.kernel or _native.attention_kernel()}, {args.threads} threads, milliseconds\n")
    print("| cache | cells | rows | ggml flash | ggml products | ours | faster | t(rows)/t(1) |")
    print("|---|---|---|---|---|---|---|---|")
    for cache_type in args.types:
        for n_cells in args.cells:
            bench(cache_type, n_cells, args.rows, args)


if __name__ == "__main__":
    main()
