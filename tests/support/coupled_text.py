"""Coupled sampling gives one text for a seed, with and without drafts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pytrimode import TriMode
from pytrimode.options.sampling import COUPLED, Sampling

from .decoding import decode

SEEDS = (1, 2, 3)
BLOCK_LENGTHS = (2, 8, 16)
TEMPERATURES = (0.5, 1.0)
TOP_PS = (0.9, 1.0)
MAX_TOKENS = 40


def random_prompts(model: TriMode, n: int) -> list[list[int]]:
    """Ordinary tokens behind the BOS, for models of random weights."""
    rng = np.random.default_rng(0)
    return [[1, *(int(t) for t in rng.integers(128, model.n_vocab, rng.integers(2, 60)))] for _ in range(n)]


def compare(
    model: TriMode, prompts: Iterable[Sequence[int]], temperature: float, top_p: float, max_tokens: int = MAX_TOKENS
) -> Iterator[tuple[str, list[int], bool]]:
    """(what was compared, its tokens, whether they are those of ar) for every prompt, seed and block length."""
    for number, prompt in enumerate(prompts):
        for seed in SEEDS:
            sampling = Sampling(temperature=temperature, top_p=top_p, top_k=0, min_p=0.0, sampler=COUPLED, seed=seed)
            expected, _ = decode(model, prompt, mode="ar", max_tokens=max_tokens, sampling=sampling)
            for block_length in BLOCK_LENGTHS:
                tokens, _ = decode(
                    model, prompt, mode="self-spec", max_tokens=max_tokens, block_length=block_length,
                    sampling=sampling,
                )  # fmt: skip
                what = f"prompt {number}, seed {seed}, B {block_length}, T {temperature}, top_p {top_p}"
                yield what, tokens, tokens == expected
