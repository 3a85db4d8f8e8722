"""The decoding modes: names, aliases and defaults. Everything else takes them from here."""

from __future__ import annotations

from collections.abc import Mapping

from pytrimode.gguf import keys
from pytrimode.options.defaults import DEFAULT_BLOCK_LENGTH, DEFAULT_THRESHOLD

AR = "ar"
DIFFUSION = "diffusion"
SELF_SPEC = "self-spec"
AUTO = "auto"

MODES = (AR, DIFFUSION, SELF_SPEC)
"""What the engine runs."""

MODE_HELP = {
    AR: "one token per forward pass, left to right",
    DIFFUSION: "blocks of masked tokens, filled in by several passes",
    SELF_SPEC: "one pass drafts a block, a second verifies it; greedy output equals ar",
    AUTO: "self-spec with block lengths chosen by measurement, down to ar where drafts do not pay",
}

ALIASES = {"dlm": DIFFUSION, "linear_spec": SELF_SPEC}
"""Names that the model cards and other tools use."""

MODE_NAMES = (*MODES, AUTO, *ALIASES)
"""All names that a user may write."""

REVEAL_CONFIDENCE = "confidence"
REVEAL_ORDERS = {
    REVEAL_CONFIDENCE: "the most confident positions of a block first",
    "leftmost": "from left to right",
    "margin": "the first position, and those whose best token leads the second by the threshold",
}
"""In which order diffusion fills in a block."""

DEFAULT_MODE = AUTO
MEASURED_BLOCK_LENGTH = 0
"""The engine's name for a length that it chooses itself, cycle by cycle."""

FUSED_AUTO = "auto"
FUSED: dict[str, bool | str] = {"on": True, "off": False, FUSED_AUTO: FUSED_AUTO}
"""Whether self-spec drafts in the pass that verifies; the names on a command line."""
FUSED_HELP = {
    "on": "a pass verifies a draft and makes the next one",
    "off": "two passes",
    FUSED_AUTO: "what is faster, measured on the way",
}
_FUSING = {False: "never", True: "always", FUSED_AUTO: "measured"}


def check_mode(name: str, *, has_mask: bool) -> str:
    """One of `MODES` or `AUTO` for a name that a user wrote.

    Raises ValueError for an unknown name, and for a mode that needs the mask token in a file without one.
    """
    mode = ALIASES.get(name, name)
    if mode not in (*MODES, AUTO):
        raise ValueError(f"unknown mode {name!r}: use one of {', '.join(MODE_NAMES)}")
    if mode not in (AR, AUTO) and not has_mask:
        raise ValueError(
            f"mode {mode} needs a mask token, and the file names none ({keys.TOKENIZER_MASK}): "
            f"only mode {AR} works. Files converted by trimode-convert from a tri-mode checkpoint name it."
        )
    return mode


def resolve_mode(name: str, *, has_mask: bool) -> str:
    """Return what the engine runs for it, one of `MODES`; raises as `check_mode`."""
    mode = check_mode(name, has_mask=has_mask)
    if mode == AUTO:  # diffusion is no choice: its text may differ
        return SELF_SPEC if has_mask else AR
    return mode


def default_block_length(mode: str, metadata: Mapping[str, str]) -> int:
    """Tokens per block when the user names none and the engine is not to choose.

    Diffusion takes the length that the checkpoint was trained for, where the file tells it, since its answers depend on
    it. The output of self-spec does not depend on it, only its speed: 16 there.
    """
    if mode == DIFFUSION and keys.TRIMODE_BLOCK_LENGTH in metadata:
        return int(metadata[keys.TRIMODE_BLOCK_LENGTH])
    return DEFAULT_BLOCK_LENGTH


def fusing(fused: bool | str | None, block_length: int) -> str:
    """Return the engine's name for what a user asked; None: what is faster if the engine chooses the length too, else
    never.

    Raises ValueError for anything else.
    """
    if fused is None:
        fused = FUSED_AUTO if block_length == MEASURED_BLOCK_LENGTH else False
    if not isinstance(fused, (bool, str)) or fused not in _FUSING:
        raise ValueError(f"fused {fused!r}: use True, False or {FUSED_AUTO!r}")
    return _FUSING[fused]


def default_threshold(metadata: Mapping[str, str]) -> float:
    """Return the confidence from which diffusion keeps a token at once: the file's, else 0.9."""
    return float(metadata.get(keys.TRIMODE_THRESHOLD, DEFAULT_THRESHOLD))
