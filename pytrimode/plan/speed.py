"""Estimated tokens per second of each mode. Estimates, not measurements: `docs/gpu.md` tells what they are worth.

One pass over R rows takes

    t(R) = layers * launch  +  max( moved,  2 * params * R / (rate * RATE_USED) )  +  rows(R)
    moved = bytes / (bandwidth * BANDWIDTH_USED)

rows(R) is what more rows than one cost: with the kernels of ggml layers * a(R) + moved * b(R), as measured on an H100
(`MORE_ROWS`); with those of serving stacks BLOCK_SECONDS.

bytes: all weights but the token embedding, and the cached keys and values. With acceptance a per drafted token a
self-speculation cycle of two passes gives (1 - a^B) / (1 - a) tokens; a follows from published tokens per forward at
B = 32. Tokens per second:

    ar         1 / t(1)
    diffusion  tokens per forward / t(32), the committing pass of each block counted too
    self-spec  the best over B of tokens per cycle / (2 t(B))

BANDWIDTH_USED, RATE_USED, BLOCK_SECONDS and the launch times were fitted to the published measurements in
`published.py`, `MORE_ROWS` to this engine's passes there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pytrimode.plan.cards import Card

BANDWIDTH_USED = 0.8
RATE_USED = 0.24
BLOCK_SECONDS = 1.3e-3
MORE_ROWS = {
    1: (0.0, 0.0), 2: (0.0, 0.07), 4: (4e-6, 0.18), 8: (24e-6, 0.65), 16: (58e-6, 0.62), 32: (76e-6, 0.84),
    64: (117e-6, 1.14),
}  # fmt: skip
"""By rows: seconds a layer, and a share of `moved`. ggml's kernels for up to 8 rows unpack weights for every row."""

BLOCK_LENGTHS = (4, 8, 16, 32)
PUBLISHED_BLOCK = 32

TPF_DIFFUSION = 2.57
"""Tokens per forward, 8B, threshold 0.9, the committing pass not counted. No other size is published."""
TPF_SELF_SPEC = 4.52
"""8B, without the drafter LoRA."""
LORA_GAIN = {"3B": 1.14, "8B": 5.99 / 4.52, "14B": 1.28}
"""Factor on tokens per forward."""


class Launch(Enum):
    """Seconds per layer that a pass costs whatever it computes."""

    GRAPH = 0.055e-3
    """Replayed as one graph."""
    KERNELS = 0.2e-3
    """Launched kernel by kernel."""


class Kernels(Enum):
    """Whose products a pass runs."""

    GGML = "ggml"
    """Of this engine, llama.cpp and its forks."""
    SERVING = "serving"
    """Of serving stacks in Python."""


@dataclass(frozen=True)
class Load:
    """What a pass moves and computes.

    Attributes:
        layers: of the model.
        params: weights that take part in products.
        n_bytes: weights and cache that are read.
    """

    layers: int
    params: int
    n_bytes: int


@dataclass(frozen=True)
class Speeds:
    """Estimated tokens per second at batch 1.

    Attributes:
        ar: mode ar.
        diffusion: mode diffusion.
        self_spec: mode self-spec.
        block_length: of self-spec, the best.
    """

    ar: float
    diffusion: float
    self_spec: float
    block_length: int


def pass_seconds(
    card: Card, load: Load, rows: int, launch: Launch = Launch.GRAPH, kernels: Kernels = Kernels.GGML
) -> float:
    """Time of one forward pass."""
    moved = load.n_bytes / (card.bandwidth * 1e9 * BANDWIDTH_USED)
    computed = 2 * load.params * rows / (card.rate * 1e12 * RATE_USED)
    seconds = load.layers * launch.value + max(moved, computed)
    if kernels is Kernels.SERVING:
        return seconds + (BLOCK_SECONDS if rows > 1 else 0.0)
    a_layer, share = _more_rows(rows)
    return seconds + load.layers * a_layer + moved * share


def _more_rows(rows: int) -> tuple[float, float]:
    """`MORE_ROWS`, on straight lines between its numbers of rows and beyond the last."""
    known = list(MORE_ROWS)
    at = min(max(bisect_left(known, rows), 1), len(known) - 1)
    low, high = known[at - 1], known[at]
    way = (rows - low) / (high - low)
    (a, b), (c, d) = MORE_ROWS[low], MORE_ROWS[high]
    return a + (c - a) * way, b + (d - b) * way


def tokens_per_cycle(acceptance: float, block_length: int) -> float:
    """Tokens that a cycle of self-speculation emits: drafts are accepted up to the first rejection, plus one."""
    return sum(acceptance**i for i in range(block_length))


def acceptance_from(tokens_per_forward: float, block_length: int = PUBLISHED_BLOCK) -> float:
    """Probability that a drafted token is accepted, from tokens per forward (two passes a cycle)."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if tokens_per_cycle(middle, block_length) < 2 * tokens_per_forward:
            low = middle
        else:
            high = middle
    return low


def diffusion_tokens_per_forward(block_length: int = PUBLISHED_BLOCK) -> float:
    """Return the published tokens per forward with the committing pass counted."""
    return block_length / (block_length / TPF_DIFFUSION + 1)


def self_spec_tokens_per_forward(size: str | None, *, lora: bool) -> float:
    """Return what is published for the size ("3B", "8B", "14B"), 8B's for others; at a block length of 32."""
    return TPF_SELF_SPEC * (LORA_GAIN.get(size or "", LORA_GAIN["8B"]) if lora else 1.0)


def speeds(
    card: Card, load: Load, *, size: str | None = None, lora: bool = True, launch: Launch = Launch.GRAPH,
    kernels: Kernels = Kernels.GGML, block_lengths: tuple[int, ...] = BLOCK_LENGTHS,
) -> Speeds:  # fmt: skip
    """Return the estimate for a card."""

    def seconds(rows: int) -> float:
        return pass_seconds(card, load, rows, launch, kernels)

    return speeds_of(seconds, size=size, lora=lora, block_lengths=block_lengths)


def speeds_of(
    seconds: Callable[[int], float], *, size: str | None, lora: bool, block_lengths: tuple[int, ...] = BLOCK_LENGTHS
) -> Speeds:
    """Return what follows from the time of a pass by its rows; `size` ("3B", "8B", "14B") says whose acceptance is
    taken.
    """
    acceptance = acceptance_from(self_spec_tokens_per_forward(size, lora=lora))

    def self_spec(block_length: int) -> float:
        return tokens_per_cycle(acceptance, block_length) / (2 * seconds(block_length))

    best = max(block_lengths, key=self_spec)
    return Speeds(
        ar=1 / seconds(1),
        diffusion=diffusion_tokens_per_forward() / seconds(PUBLISHED_BLOCK),
        self_spec=self_spec(best),
        block_length=best,
    )
