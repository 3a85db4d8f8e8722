"""Speeds on this machine's CPU: the time of products with random weights, measured here and now, nothing loaded.

A pass of R rows takes, summed over all matrices, their weights times the seconds that a weight of their type adds to a
pass of R rows. Attention and the rest are left out: a short text is assumed. Tokens per second follow as in `speed.py`.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from statistics import median

import numpy as np

from pytrimode import _native
from pytrimode.convert.checkpoint.names import EMBEDDING, expected_weights
from pytrimode.plan.model_shape import ModelShape
from pytrimode.plan.speed import BLOCK_LENGTHS, Speeds, speeds_of
from pytrimode.plan.weights import AS_STORED, chosen_types

COLUMNS, OUTPUTS = 4096, 3072
COPIES = 3
"""Of the weights for each thread: more than caches hold."""
ROUNDS = 3


def params_by_type(shape: ModelShape, quantization: str) -> Counter[str]:
    """How many weights in matrices of each type, by its name, a pass multiplies."""
    found: Counter[str] = Counter()
    if quantization == AS_STORED:
        for tensor in shape.stored:
            if tensor.name != EMBEDDING and len(tensor.shape) > 1:
                found[tensor.type.lower()] += tensor.n_params
        return found
    types = chosen_types(shape.hparams, quantization)
    for weight in expected_weights(shape.hparams):
        if weight.target != EMBEDDING and len(weight.shape) > 1:
            found[types[weight.target].name.lower()] += prod(weight.shape)
    return found


@cache
def seconds_per_weight(name: str, n_threads: int) -> dict[int, float]:
    """Return what a weight of a type adds to a pass, by the pass's rows: median of a few rounds, all threads at work.

    Raises ValueError for a type that has no product of ours here.
    """
    kernels = _native.product_kernels_in_use()
    if kernels is None or not _native.has_product(name, COLUMNS, OUTPUTS):
        raise ValueError(f"{name}: its products are llama.cpp's on this CPU, and are not measured")
    values = np.random.default_rng(1).normal(0.0, 0.05, (OUTPUTS, COLUMNS)).astype(np.float32)
    data = _native.encode(values.tobytes(), "f32", name, COLUMNS, n_threads)
    weights = [[_native.PackedWeight(name, data, COLUMNS, OUTPUTS) for _ in range(COPIES)] for _ in range(n_threads)]
    found: dict[int, float] = {}
    with ThreadPoolExecutor(n_threads) as threads:
        for rows in (1, *BLOCK_LENGTHS):
            x = np.random.default_rng(rows).normal(0.0, 1.0, (rows, COLUMNS)).astype(np.float32)

            def share(own: list[_native.PackedWeight], x: np.ndarray = x) -> None:
                for weight in own:
                    weight.multiply(x, kernels)

            seconds = []
            for _ in range(ROUNDS + 1):
                begin = time.perf_counter()
                list(threads.map(share, weights))
                seconds.append(time.perf_counter() - begin)
            found[rows] = median(seconds[1:]) / (n_threads * COPIES * OUTPUTS * COLUMNS)
    return found


def cpu_speeds(shape: ModelShape, quantization: str, n_threads: int, *, size: str | None, lora: bool) -> Speeds:
    """Return the estimate for this CPU. Raises ValueError where a type of the model cannot be measured."""
    types = params_by_type(shape, quantization)
    measured = {name: seconds_per_weight(name, n_threads) for name in types}

    def pass_seconds(rows: int) -> float:
        return sum(n * measured[name][rows] for name, n in types.items())

    return speeds_of(pass_seconds, size=size, lora=lora)
