"""Drafts that are right as often as is published, drawn by lot: what no model at hand drafts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks.recorded_passes import Rows
from benchmarks.time_profiles import Profile
from pytrimode.bench.acceptance import SECOND, SPREAD, STRAYED, centre

RANK_TWO, RANK_THREE = SECOND, 0.158
"""Where the right token is, if it is not the best candidate (published for the 8B)."""

AFTER_REJECTION = 0.5
"""How often a group of masks behind a rejected draft tells the next token, as the engine begins with."""


def logistic(x: np.ndarray) -> np.ndarray:
    """Return probabilities of log-odds."""
    return 1 / (1 + np.exp(-x))


def draw(rates: Sequence[float], n: int, seed: int = 0) -> list[tuple[Rows, list[int]]]:
    """Return n drafts of len(rates) rows, and the text behind each seed, one token longer.

    `rates`: how often the best candidate of a row is right where those before it were. A candidate's token is its rank;
    -1 in the text: none of them.
    """
    rng = np.random.default_rng(seed)
    centres = np.array([centre(rate) for rate in rates])
    found = []
    for _ in range(n):
        p = logistic(centres + SPREAD * rng.standard_normal(len(rates)))
        chances = np.stack([p, RANK_TWO * (1 - p), RANK_THREE * (1 - p)], axis=1)
        tokens = np.tile(np.arange(3, dtype=np.int32), (len(rates), 1))
        text, strayed = [], False
        for right, u, v in zip(p, rng.random(len(rates)), rng.random(len(rates)), strict=True):
            if u < (logistic(np.log(right / (1 - right)) - STRAYED) if strayed else right):
                text.append(0)
            else:
                text.append(1 if v < RANK_TWO else 2 if v < RANK_TWO + RANK_THREE else -1)
                strayed = True
        found.append((Rows(tokens, chances.astype(np.float32), np.zeros(len(rates), np.float32)), [*text, -1]))
    return found


def fused(rates: Sequence[float], profile: Profile, max_width: int, max_rows: int) -> dict[str, float]:
    """Return the speeds of fused cycles by groups and their width, of drafts accepted at these rates."""

    def all_of(first: int, n: int) -> float:
        return math.prod(rates[min(i, len(rates) - 1)] for i in range(first, first + n))

    found = {}
    for width in range(2, max_width + 1):
        ends = sorted((all_of(1, n) * (1 - all_of(1 + n, 1)) for n in range(width - 1)), reverse=True)
        tokens = sum(all_of(1, n) for n in range(width))
        for groups in range(1, max_rows // width):
            again = all_of(1, width - 1) * rates[0] + sum(ends[: groups - 1]) * AFTER_REJECTION
            passes = rates[0] / (1 - again)  # with a draft, for each without one
            alone, both = (profile.time(n, drafting=True) for n in (1 + width, width * (1 + groups)))
            found[f"{groups} x {width}"] = (1 + passes * tokens) / (alone + passes * both)
    return found
