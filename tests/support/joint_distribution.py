"""The joint distribution of the next tokens: enumerated exactly, and counted over many seeds."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2

from pytrimode import TriMode
from pytrimode.convert import convert
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

from .sampling_reference import Distributions, FreshNoise, Rule, self_spec
from .synthetic import make_agreeing_checkpoint

Tokens = tuple[int, ...]
Cell = tuple[int | None, ...]
LENGTH = 3
"""Tokens whose joint distribution is looked at."""
PROMPTS = [[1, 200, 210], [1, *range(300, 330, 2)], [1, *range(140, 160)]]
TEMPERATURES = (0.3, 0.7, 1.0, 1.5)
OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
TRUNCATIONS: dict[str, dict[str, Any]] = {
    "none": OFF,
    "top-k 5": OFF | {"top_k": 5},
    "top-p 0.9": OFF | {"top_p": 0.9},
    "min-p 0.1": OFF | {"min_p": 0.1},
    "repeat penalty 1.2": OFF | {"repeat_penalty": 1.2},
    "all": {"top_k": 5, "top_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.2},
}
SIGNIFICANCE = 0.001
"""What the smallest p value, times the number of tests (Bonferroni), has to exceed."""
MIN_EXPECTED = 5
"""Cells of a chi-square test that are expected less often are put together."""
_CHANNEL = -100
"""Of the events of `draw_many`."""


def load_agreeing_model(directory: Path, *, n_parallel: int = 1, flash_attn: bool = False) -> TriMode:
    """See `make_agreeing_checkpoint`; weights and cache are exact, so that `logits()` is what decoding computes."""
    source = make_agreeing_checkpoint(directory / "model")
    gguf = convert(source, directory / "model.gguf", "f32").path
    return TriMode(
        gguf, n_ctx=max(256, 64 * n_parallel), n_threads=1, n_parallel=n_parallel, flash_attn=flash_attn,
        type_k="f32", type_v="f32",
    )  # fmt: skip


@dataclass
class Cells:
    """A partition of all continuations of `length` tokens: common ones for themselves, rare ones by common beginning.

    A cell is a whole continuation, or (beginning, None): all others that begin so.
    """

    expected: dict[Cell, float]
    """How often each is expected."""
    excluded: Callable[[Tokens], bool]
    """Whether the target never gives a continuation."""

    def of(self, tokens: Tokens) -> Cell:
        """The cell of a continuation. Raises ValueError for one that the target excludes."""
        if self.excluded(tokens):
            raise ValueError(f"{tokens} came out, which the target excludes")
        if tokens in self.expected:
            return tokens
        return next(c for n in range(len(tokens) - 1, -1, -1) if (c := (*tokens[:n], None)) in self.expected)


def enumerate_cells(of: Distributions, n: int, length: int = LENGTH) -> Cells:
    """Exact expectations for n draws."""
    expected: dict[Cell, float] = {}

    def split(beginning: Tokens, times: float) -> None:
        if len(beginning) == length:
            expected[beginning] = times
            return
        p = of.target(beginning)
        rest = times
        for token in (int(t) for t in (times * p >= MIN_EXPECTED).nonzero()[0]):
            split((*beginning, token), times * p[token])
            rest -= times * p[token]
        expected[(*beginning, None)] = max(rest, 0.0)

    def excluded(tokens: Tokens) -> bool:
        return any(of.target(tokens[:i])[token] == 0 for i, token in enumerate(tokens))

    split((), n)
    return Cells(expected, excluded)


def chi_square_p(cells: Cells, counts: Counter[Tokens]) -> float:
    """p value of the counts of n draws. 0 when a token came out that the target excludes."""
    observed: Counter[Cell] = Counter()
    try:
        for tokens, times in counts.items():
            observed[cells.of(tokens)] += times
    except ValueError:
        return 0.0
    pairs = [(observed[cell], times) for cell, times in cells.expected.items() if times >= MIN_EXPECTED]
    rare = [(observed[cell], times) for cell, times in cells.expected.items() if times < MIN_EXPECTED]
    pooled = sum(o for o, _ in rare), sum(e for _, e in rare)
    if pooled[1] >= MIN_EXPECTED:
        pairs.append(pooled)
    elif pairs:
        # Too few for a cell of their own: they go with the rarest.
        least = min(range(len(pairs)), key=lambda i: pairs[i][1])
        pairs[least] = pairs[least][0] + pooled[0], pairs[least][1] + pooled[1]
    statistic = sum((o - e) ** 2 / e for o, e in pairs)
    return float(chi2.sf(statistic, len(pairs) - 1)) if len(pairs) > 1 else 1.0


@dataclass
class Draws:
    """What many seeds gave."""

    counts: Counter[Tokens]
    drafted: int = 0
    accepted: int = 0


def draw_many(
    model: TriMode, prompt: Sequence[int], sampling: Sampling, seeds: Iterable[int], *, length: int = LENGTH,
    **request: Any,
) -> Draws:  # fmt: skip
    """The first `length` tokens for every seed, `n_parallel` seeds side by side.

    Requests want more tokens, so that blocks have their full length, and are given up once they have enough.
    """
    room = length + request.get("block_length", 1)
    options = GenerationOptions(max_tokens=room, ignore_eos=True, sampling=sampling, **request)
    wanted = model.resolve(options, len(prompt)).engine
    engine, left = model.engine, iter(seeds)
    running: dict[int, list[int]] = {}
    out = Draws(Counter())

    def fill() -> None:
        for seed in itertools.islice(left, model.n_parallel - len(running)):
            running[engine.submit(prompt, wanted.replace(seed=seed), _CHANNEL)] = []

    fill()
    while running:
        for event in engine.wait(_CHANNEL):
            tokens = running.get(event.request_id)
            if tokens is None:
                continue  # of a request that was given up
            assert event.finish_reason != "failed", event.error
            tokens += event.tokens
            if len(tokens) < length:
                continue
            out.counts[tuple(tokens[:length])] += 1
            out.drafted += event.stats.drafted
            out.accepted += event.stats.accepted
            del running[event.request_id]
            engine.release(event.request_id)
        fill()
    return out


def simulate_many(
    of: Distributions, rule: Rule, n: int, *, block_length: int, length: int = LENGTH, seed: int = 0
) -> Counter[Tokens]:
    """The same from the simulation, whose acceptance rule can be a wrong one."""
    rng = np.random.default_rng(seed)
    counts: Counter[Tokens] = Counter()
    for _ in range(n):
        noise = FreshNoise(rng, of.model.n_vocab)
        run = self_spec(of, rule, noise, max_tokens=length + block_length, block_length=block_length, enough=length)
        counts[tuple(run.tokens[:length])] += 1
    return counts
