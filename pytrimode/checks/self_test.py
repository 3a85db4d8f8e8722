"""Does a device compute what the CPU computes? The shipped checkpoint's logits of every kind of row, compared."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytrimode import _native
from pytrimode.files.model_file import find_drafter_lora

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 2e-2
"""Root of the mean squared difference of the logits, relative to that of the logits: devices compute with F16."""
SELF_TEST_TYPE = "f32"
"""Of the weights: every backend has these products, and they leave the tolerance a wide margin (1e-3 at most on
Vulkan). F16 weights make up to 1.4e-2 there; quantized ones 2e-2, as each backend rounds activations in its own way."""
PROMPT = b"<|im_start|>user\nSort these numbers: 74, 31, 95, 12, 8, 66<|im_end|>\n<|im_start|>assistant\n"
BLOCK_START, BLOCK_LENGTH = 32, 16
ROW_KINDS = {"causal": (-1, False), "block": (BLOCK_START, False), "draft": (BLOCK_START, True)}
"""Where the block of masks begins and whether the drafter LoRA is on; the rows in front of a block are causal."""

Logits = dict[str, "NDArray[np.float32]"]


@dataclass(frozen=True)
class RowKindResult:
    """How one kind of row compares.

    Attributes:
        kind: causal, block or draft.
        error: see `TOLERANCE`; not finite where a logit is not.
        same_tokens: rows whose most likely token is the same.
        rows: of how many.
    """

    kind: str
    error: float
    same_tokens: int
    rows: int

    @property
    def ok(self) -> bool:
        """Within the tolerance (NaN is not)."""
        return self.error <= TOLERANCE


def device_logits(gguf: Path, device: str | None, *, flash_attn: bool = True) -> Logits:
    """By kind of row, [rows, n_vocab]; draft rows only where the file has a drafter LoRA.

    device: ggml's name, None for the CPU. Raises RuntimeError when the device fails.
    """
    lora = find_drafter_lora(gguf, "auto")
    model = _native.Model(
        str(gguf),
        lora_path=str(lora) if lora else None,
        n_gpu_layers=-1 if device else 0,
        devices=[device] if device else [],
    )
    engine = _native.Engine(model, n_ctx=256, n_threads=1, flash_attn=flash_attn)
    prompt = model.tokenize(PROMPT, True, True)[:BLOCK_START]
    tokens = prompt + [model.mask_token_id] * BLOCK_LENGTH
    return {
        kind: engine.logits(tokens, block_start, with_lora)[max(block_start, 0) :]
        for kind, (block_start, with_lora) in ROW_KINDS.items()
        if lora or not with_lora
    }


def compare(reference: Logits, found: Logits) -> list[RowKindResult]:
    """Every kind of row of `found` against the same of `reference`."""
    return [
        RowKindResult(
            kind=kind,
            error=float(np.linalg.norm(found[kind] - expected) / np.linalg.norm(expected)),
            same_tokens=int((found[kind].argmax(axis=1) == expected.argmax(axis=1)).sum()),
            rows=len(expected),
        )
        for kind, expected in reference.items()
    ]


def patterns_differ(logits: Logits) -> bool:
    """Whether block rows differ from causal ones, and draft rows from block rows: the mask and the LoRA take effect."""
    rows = [logits["causal"][BLOCK_START:], *(logits[kind] for kind in ("block", "draft") if kind in logits)]
    return all(float(np.abs(a - b).max()) > 0 for a, b in pairwise(rows))
