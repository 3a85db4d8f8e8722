"""The drafter LoRA on o_proj: attach, load, train."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from checkpoint import LORA_ALPHA, LORA_KEY, LORA_RANK
from model import TriMode
from safetensors.torch import load_file
from torch import Tensor, nn


class LoRA(nn.Module):
    """(alpha / r) * B A x (Hu et al. 2021)."""

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float):
        super().__init__()
        self.a = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return F.linear(F.linear(x, self.a), self.b) * self.scale


def attach(model: TriMode) -> list[LoRA]:
    """Put a fresh LoRA (B = 0, so without effect) on every o_proj and return them by layer."""
    loras = []
    for layer in model.encoder.layers:
        o_proj = layer.self_attn.o_proj
        layer.self_attn.lora = LoRA(o_proj.in_features, o_proj.out_features, LORA_RANK, LORA_ALPHA)
        loras.append(layer.self_attn.lora)
    return loras


def load_lora(model: TriMode, folder: Path) -> None:
    """Attach the drafter of a checkpoint folder."""
    tensors = load_file(folder / "linear_spec_lora" / "adapter_model.safetensors")
    with torch.no_grad():
        for i, lora in enumerate(attach(model)):
            lora.a.copy_(tensors[LORA_KEY.format(i, "A")])
            lora.b.copy_(tensors[LORA_KEY.format(i, "B")])


def draft_loss(draft: Tensor, causal: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
    """KL(causal || draft) over drafted positions up to and including the first rejection.

    draft, causal: logits [k, vocab] of the masked rows and of the causal rows that predict the same positions,
    ordered by block and position; block [k]: a number per block. Rows after the first rejection count a tenth, so that
    they do not drift. Returns (loss, mean accepted drafts per block).
    """
    with torch.no_grad():
        wrong = (draft.argmax(-1) != causal.argmax(-1)).float()
        _, inverse = torch.unique(block, return_inverse=True)
        n_blocks = int(inverse.max()) + 1
        total = torch.cumsum(wrong, 0) - wrong  # rejections in all rows before this one
        first = torch.full((n_blocks,), torch.inf).scatter_reduce(0, inverse, total, "amin")
        before = total - first[inverse]  # rejections before this row within its block
        weight = torch.where(before == 0, 1.0, 0.1)
        accepted = ((before == 0) & (wrong == 0)).sum() / n_blocks
    kl = F.kl_div(draft.log_softmax(-1), causal.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    return (kl * weight).sum() / weight.sum(), accepted
