"""Muon for the hidden matrices, AdamW for embedding, head and norms."""

from __future__ import annotations

import torch
from parallel import shared_map
from torch import Tensor, nn


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """Approximate UV^T of each matrix in g [k, a, b] by the quintic Newton-Schulz iteration (Jordan et al. 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.mT if g.shape[1] > g.shape[2] else g
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return (x.mT if g.shape[1] > g.shape[2] else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by Newton-Schulz; matrices of one shape are processed together.

    Weights and momentum are float32; the iteration alone runs in bfloat16, as in torch.optim.Muon.
    """

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for shape, params in shapes.items():
                updates = []
                for p in params:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(buffer, group["momentum"]))
                update = shared_map(orthogonalise, torch.stack(updates)) * max(1.0, shape[0] / shape[1]) ** 0.5
                for p, u in zip(params, update, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(u, alpha=-group["lr"])


class Optimizers:
    """Both optimizers with one learning-rate factor."""

    def __init__(self, model: nn.Module, muon_lr: float, adam_lr: float):
        hidden = [p for n, p in model.named_parameters() if "layers" in n and p.ndim == 2]
        others = [p for n, p in model.named_parameters() if not ("layers" in n and p.ndim == 2)]
        self.muon = Muon(hidden, muon_lr)
        self.adam = torch.optim.AdamW(others, adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.base = (muon_lr, adam_lr)

    def step(self, factor: float) -> None:
        """Update with learning rates times `factor` and clear the gradients."""
        for optimizer, lr in zip((self.muon, self.adam), self.base, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict:
        """State of both."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore what state_dict gave."""
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
