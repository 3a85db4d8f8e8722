"""What is compared with what: settings (how to decode) under workloads (what to decode)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytrimode._native import LOOP_WINDOW
from pytrimode.options import modes
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

STOCK = "llama-cpp-python"
DEFAULT_BLOCK_LENGTHS = (4, 8, 16, 32)


@dataclass(frozen=True)
class Setting:
    """A mode and how it drafts or denoises."""

    mode: str
    """One of `pytrimode.options.modes`, or `STOCK`."""
    block_length: int | None = None
    use_lora: bool = True
    fused: bool = False
    threshold: float | None = None
    """Of diffusion; None: the default."""
    ngram: int | None = None
    """Tokens of a draft that is read off the text; None: the default."""
    tree_nodes: int | None = None
    """Drafts beside the chain; None: the default."""

    @property
    def name(self) -> str:
        """For tables: "self-spec 16"."""
        length = "" if self.block_length is None else f" {self.block_length}"
        threshold = "" if self.threshold is None else f" at {self.threshold:g}"
        fused = ", fused" if self.fused else ""
        return self.mode + length + threshold + fused + self._left_out

    @property
    def _left_out(self) -> str:
        left_out = {"no LoRA": not self.use_lora, "no n-grams": self.ngram == 0, "no trees": self.tree_nodes == 0}
        return "".join(f", {name}" for name, is_so in left_out.items() if is_so)

    @property
    def exact(self) -> bool:
        """Whether its greedy text is that of ar."""
        return self.mode != modes.DIFFUSION

    def options(self, max_tokens: int, sampling: Sampling, ignore_eos: bool) -> GenerationOptions:
        """Of a request. `ignore_eos`: it writes `max_tokens` in any case, loops too."""
        return GenerationOptions(
            max_tokens=max_tokens, mode=self.mode, block_length=self.block_length, fused=self.fused,
            threshold=self.threshold, ngram=self.ngram, tree_nodes=self.tree_nodes, use_lora=self.use_lora,
            sampling=sampling, ignore_eos=ignore_eos, loop_window=0 if ignore_eos else LOOP_WINDOW,
        )  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """Prompts of one category and length, how much to write, and how many requests at a time."""

    category: str
    prompt_length: int
    """0: as the prompts are."""
    max_tokens: int
    parallel: int


def settings_of(
    names: Sequence[str],
    block_lengths: Sequence[int],
    *,
    has_mask: bool,
    fused: bool,
    without_lora: bool,
    without_ngram: bool = False,
    without_trees: bool = False,
) -> list[Setting]:
    """Return the settings for modes that a user wrote; block lengths multiply those modes that have them.

    `fused`: self-spec once more in fused passes. `without_lora`: once more without the drafter LoRA. `without_ngram`:
    auto once more without drafts that are read off the text. `without_trees`: auto once more without drafts beside the
    chain. Raises ValueError as `modes.check_mode`.
    """
    found: list[Setting] = []
    for name in names:
        mode = modes.check_mode(name, has_mask=has_mask)
        if mode == modes.SELF_SPEC:
            lengths: Sequence[int | None] = block_lengths or DEFAULT_BLOCK_LENGTHS
        else:
            lengths = block_lengths if mode == modes.DIFFUSION and block_lengths else (None,)
        for length in lengths:
            found.append(Setting(mode, length))
            if mode == modes.SELF_SPEC and fused:
                found.append(Setting(mode, length, fused=True))
            if mode == modes.SELF_SPEC and without_lora:
                found.append(Setting(mode, length, use_lora=False))
            if mode == modes.AUTO and without_ngram:
                found.append(Setting(mode, length, ngram=0))
            if mode == modes.AUTO and without_trees:
                found.append(Setting(mode, length, tree_nodes=0))
    return list(dict.fromkeys(found))
