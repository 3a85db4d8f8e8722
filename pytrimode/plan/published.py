"""Measurements of tri-mode models at batch 1, beside what `speed` says of the same setting.

Sources: the model cards and the serving reports for Nemotron-Labs-Diffusion; the GGUF fork's table for the RTX 3090;
`tools/gpu_suite` for this engine on an H100 (random weights, drafts accepted at published rates).
Tokens per second. Serving stacks ran without the drafter LoRA taking effect, as far as is known. `launch` is not
published: it is what the AR figure of the row shows (of the int4 row, which has none, the figure itself).
"""

from __future__ import annotations

from dataclasses import dataclass

from pytrimode.plan.cards import Card, find_card
from pytrimode.plan.model_shape import BUILT_IN
from pytrimode.plan.speed import (
    PUBLISHED_BLOCK,
    TPF_SELF_SPEC,
    Kernels,
    Launch,
    Load,
    acceptance_from,
    pass_seconds,
    speeds,
    tokens_per_cycle,
)
from pytrimode.plan.weights import weight_bytes

BITS_W4A16 = 4.25
"""Groups of 128 or 64 weights with a scale; embedding and head stay in BF16, in w4a16 and in FP8."""


@dataclass(frozen=True)
class Comparison:
    """A measured figure and the estimate for it, tokens per second or a ratio."""

    setting: str
    mode: str
    published: float
    estimate: float

    @property
    def error(self) -> float:
        """Relative: 0.1 means 10 % too high."""
        return self.estimate / self.published - 1


def _load(size: str, bits: float | None) -> Load:
    """bits: of the weights in layers, the rest in BF16; None for all in Q8_0."""
    shape = BUILT_IN[size]
    q8, bf16 = weight_bytes(shape, "q8_0"), weight_bytes(shape, "bf16")
    params = bf16.read_per_pass // 2
    if bits is None:
        return Load(shape.hparams.n_layers, params, q8.read_per_pass)
    return Load(shape.hparams.n_layers, params, int(sum(bf16.layers) * bits / 16) + bf16.head)


def _row(
    setting: str, card: str, size: str, bits: float, launch: Launch, *, lora: bool = False, **published: float
) -> list[Comparison]:
    found = speeds(
        find_card(card), _load(size, bits), size=size, lora=lora, launch=launch, kernels=Kernels.SERVING,
        block_lengths=(PUBLISHED_BLOCK,),
    )  # fmt: skip
    return [Comparison(setting, mode, value, getattr(found, mode)) for mode, value in published.items()]


def _fork(card: Card) -> list[Comparison]:
    """Blocks of 4, three passes a cycle, no LoRA; its figures are for code and for prose."""
    seconds = 3 * pass_seconds(card, _load("14B", None), 4)
    estimate = tokens_per_cycle(acceptance_from(TPF_SELF_SPEC), 4) / seconds
    setting = "RTX 3090, 14B Q8_0, GGUF fork, k=4"
    return [Comparison(setting, f"self_spec, {text}", value, estimate) for text, value in (("code", 50), ("prose", 42))]


def _reference_ratio(card: Card) -> Comparison:
    """Seconds per case, AR over self-speculation, of the reference code with the LoRA."""
    found = speeds(
        card, _load("3B", 16), size="3B", launch=Launch.KERNELS, kernels=Kernels.SERVING,
        block_lengths=(PUBLISHED_BLOCK,),
    )  # fmt: skip
    return Comparison("L4, 3B BF16, reference Python", "self_spec / ar", 7.47 / 1.22, found.self_spec / found.ar)


def _forward_times(card: Card) -> list[Comparison]:
    """Compare passes per second by rows."""
    load = _load("14B", 16)
    return [
        Comparison(
            "B200, 14B",
            f"passes of {rows} rows",
            1e3 / ms,
            1 / pass_seconds(card, load, rows, kernels=Kernels.SERVING),
        )
        for rows, ms in ((8, 6.99), (16, 7.13), (32, 7.86))
    ]


OURS = "H100 80GB, {} Q8_0, this engine"
PASSES = {
    "3B": {1: 2.706, 4: 3.060, 8: 4.197, 16: 5.045, 32: 5.815, 64: 7.282},
    "14B": {1: 7.094, 4: 8.165, 8: 11.34, 16: 12.55, 32: 14.39, 64: 17.59},
}
"""Milliseconds by rows, behind 512 cells."""


def _ours(card: Card) -> list[Comparison]:
    """Of this engine: passes per second by rows, and tokens per second of two modes."""
    passes = [
        Comparison(
            OURS.format(size), f"passes of {rows} rows", 1e3 / ms, 1 / pass_seconds(card, _load(size, None), rows)
        )
        for size, times in PASSES.items()
        for rows, ms in times.items()
    ]
    found = {size: speeds(card, _load(size, None), size=size) for size in PASSES}
    measured = {"3B": {"ar": 355.6, "self_spec": 998.3}, "14B": {"ar": 138.8, "self_spec": 438.8}}
    modes = [
        Comparison(OURS.format(size), mode, value, getattr(found[size], mode))
        for size, figures in measured.items()
        for mode, value in figures.items()
    ]
    return passes + modes


def comparisons() -> list[Comparison]:
    """All rows."""
    return [
        *_row("DGX Spark, 8B w4a16", "DGX Spark", "8B", BITS_W4A16, Launch.GRAPH, ar=41.8, diffusion=54.1,
              self_spec=112.5),
        *_row("RTX PRO 6000, 8B FP8", "RTX PRO 6000", "8B", 8, Launch.KERNELS, ar=80, diffusion=137, self_spec=277),
        *_row("RTX PRO 6000, 8B int4", "RTX PRO 6000", "8B", BITS_W4A16, Launch.GRAPH, self_spec=525),
        *_row("GB200, 8B", "GB200", "8B", 16, Launch.GRAPH, ar=253, diffusion=389, self_spec=850),
        *_row("A100-80, 3B", "A100 80GB", "3B", 16, Launch.KERNELS, ar=109, diffusion=291, self_spec=450),
        *_fork(find_card("RTX 3090")),
        _reference_ratio(find_card("L4")),
        *_forward_times(Card("B200", 180, 8000, 2250)),
        *_ours(find_card("H100 80GB")),
    ]  # fmt: skip
