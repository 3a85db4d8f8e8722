"""t(rows): how long a pass takes by its number of rows, ours and llama_decode's.

Each variant is a process of its own, as ggml-cuda reads its environment variables once.
"""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise
from typing import Any

from gpu_suite.engines import Engines
from gpu_suite.models import model_file
from gpu_suite.record import Context, spread

from pytrimode.plan.model_shape import model_shape
from pytrimode.plan.weights import AS_STORED, weight_bytes

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 17, 24, 32, 33, 40, 48, 64)
SMALL_ROWS = (1, 2, 8, 9)
TIMES = 20
FIRST = 4
"""Passes of a new graph, told apart: it is launched kernel by kernel, recorded, and replayed from then on."""
STEP = 1.05
"""A number of rows is the last of its step where the next one takes so many times as long."""


def rows_of(context: Context) -> tuple[int, ...]:
    """Return the numbers of rows that are measured."""
    return SMALL_ROWS if context.small else ROWS


def ours(context: Context, shape: str, type: str, cells: int, variant: str = "", **options: Any) -> None:
    """Record seconds of the graph alone for each number of rows, unpadded, behind so many cells.

    With option `lora` the rows are a block that drafts. What the host does beside a graph is in `memory.host_profile`.
    """
    lora = options.pop("lora", False)
    engines = Engines(context, shape, type)
    engine = engines.engine(n_ctx=cells + 256, row_steps=list(rows_of(context)), **options)
    prefix = engines.tokens(cells)
    # ggml's RPC backend computes when results are read.
    parts = ("compute", "outputs") if context.device.startswith("RPC") else ("compute",)
    names = {
        "shape": shape,
        "type": type,
        "cells": cells,
        "variant": variant,
        "lora": lora,
        "weights": weight_bytes(model_shape(engines.path), AS_STORED).read_per_pass,
    }
    times: dict[int, float] = {}
    for rows in rows_of(context):
        tokens = prefix + engines.tokens(rows)

        def measure(tokens: list[int] = tokens) -> float:
            before = engine.times
            engine.logits(tokens, cells if lora else -1, lora, cells)
            return sum(engine.times[part] - before[part] for part in parts)

        first = [round(1e3 * measure(), 4) for _ in range(FIRST)]
        result = spread(context.repeat(measure, 3 if context.small else TIMES, warm_up=0))
        times[rows] = result["ms"]
        context.record("pass", **names, rows=rows, first_ms=first, **result)
        if context.left() <= 0:
            break
    context.record("row steps", **names, steps=row_steps(times))


def row_steps(times: dict[int, float]) -> list[int]:
    """Numbers of rows worth padding to, for the engine's `row_steps`, from milliseconds by number of rows."""
    rows = sorted(times)
    return [n for n, behind in pairwise(rows) if times[behind] > STEP * times[n]] + rows[-1:]


def operations(context: Context, shape: str, type: str) -> None:
    """Record what a graph is made of, with and without fused stores: nodes that are no views, by name."""
    engines = Engines(context, shape, type)
    for fused in (False, True):
        names = engines.engine(n_ctx=256, fused_stores=fused).operations(1)
        counts = Counter(name for name in names if name not in ("VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE", "NONE"))
        context.record(
            "operations",
            shape=shape,
            fused_stores=fused,
            layers=engines.model.n_layer,
            total=sum(counts.values()),
            **counts,
        )


def stock(context: Context, shape: str, type: str, cells: int) -> None:
    """Record seconds of `llama_decode` for each number of rows, all of their logits wanted, until these are here."""
    from gpu_suite.llama_decode import LlamaDecode

    llama = LlamaDecode(model_file(context, shape, type), cells + 256)
    tokens = [130 + (i * 7919) % 100_000 % (llama.n_vocab - 200) for i in range(cells)]
    llama.prefill(tokens)
    names = {"shape": shape, "type": type, "cells": cells}
    for rows in rows_of(context):

        def measure(rows: int = rows) -> float:
            begin = time.perf_counter()
            llama.decode(tokens[:rows], cells)
            seconds = time.perf_counter() - begin
            llama.forget(cells)
            return seconds

        context.record(
            "llama_decode", **names, rows=rows, **spread(context.repeat(measure, 3 if context.small else TIMES))
        )
        if context.left() <= 0:
            return
