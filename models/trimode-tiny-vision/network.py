"""The vision tower and projector in torch, and the text model with low-rank changes.

Layout: Pixtral's tower and Mistral3's projector, as transformers' `Mistral3ForConditionalGeneration` has them; their
modules are named as the tensors of the checkpoint. tests/vision compares both with the engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from _text_model import HERE
from model import TriMode, rotate
from torch import Tensor, nn

PATCH, MERGE = 14, 2
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
VISION = json.loads((HERE / "vision_config.json").read_text())["vision_config"]
START, PAD, BREAK, END = 18, 19, 20, 21
RANK = 32
LOW_RANK = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Attention(nn.Module):
    """Full attention within a picture, rotary positions by row and column."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], groups: list[tuple[int, int]]) -> Tensor:
        """x [n, width] of all pictures; cos, sin [n, 1, d]; groups: (pictures, patches in each) of equal grids."""
        n, width = x.shape
        q, k, v = (f(x).view(n, self.heads, -1) for f in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, *rope), rotate(k, *rope)
        out, at = [], 0
        for count, patches in groups:
            q1, k1, v1 = (
                t[at : at + count * patches].view(count, patches, self.heads, -1).transpose(1, 2) for t in (q, k, v)
            )
            out.append(F.scaled_dot_product_attention(q1, k1, v1).transpose(1, 2).reshape(count * patches, width))
            at += count * patches
        return self.o_proj(torch.cat(out))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width] -> [n, width]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Pre-norm layer of the tower."""

    def __init__(self, config: dict):
        super().__init__()
        width = config["hidden_size"]
        self.attention_norm = nn.RMSNorm(width, 1e-5)
        self.attention = Attention(width, config["num_attention_heads"])
        self.ffn_norm = nn.RMSNorm(width, 1e-5)
        self.feed_forward = FeedForward(width, config["intermediate_size"])

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], groups: list[tuple[int, int]]) -> Tensor:
        """As Attention.forward."""
        x = x + self.attention(self.attention_norm(x), rope, groups)
        return x + self.feed_forward(self.ffn_norm(x))


class Eyes(nn.Module):
    """Tower and projector: pictures to rows of the text model."""

    def __init__(self, config: dict, text_width: int):
        super().__init__()
        width = config["hidden_size"]
        tower, projector, merger = nn.Module(), nn.Module(), nn.Module()
        tower.patch_conv = nn.Conv2d(3, width, PATCH, PATCH, bias=False)
        tower.ln_pre = nn.RMSNorm(width, 1e-5)
        tower.transformer = nn.Module()
        tower.transformer.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        projector.norm = nn.RMSNorm(width, 1e-5)
        merger.merging_layer = nn.Linear(MERGE * MERGE * width, width, bias=False)
        projector.patch_merger = merger
        projector.linear_1 = nn.Linear(width, text_width, bias=False)
        projector.linear_2 = nn.Linear(text_width, text_width, bias=False)
        self.vision_tower, self.multi_modal_projector = tower, projector
        d = config["head_dim"]
        self.register_buffer("frequencies", 1.0 / 10000.0 ** (torch.arange(0, d, 2).float() / d), persistent=False)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Normal weights, those back into the residual stream small; most kernels of patches see edges, not light."""
        depth = (2 * len(self.vision_tower.transformer.layers)) ** 0.5
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                std = (weight.numel() / weight.shape[0]) ** -0.5
                small = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=std / depth if small else std)
        kernel = self.vision_tower.patch_conv.weight
        edges = kernel[kernel.shape[0] // 4 :]
        edges -= edges.mean((2, 3), keepdim=True)

    def rope(self, columns: int, rows: int) -> tuple[Tensor, Tensor]:
        """cos, sin [patches, 1, d] of a grid: even frequencies turn by the row, odd ones by the column."""
        y, x = torch.meshgrid(torch.arange(rows).float(), torch.arange(columns).float(), indexing="ij")
        angles = torch.cat(
            (torch.outer(y.flatten(), self.frequencies[::2]), torch.outer(x.flatten(), self.frequencies[1::2])), -1
        )
        angles = torch.cat((angles, angles), -1)[:, None]
        return angles.cos(), angles.sin()

    def forward(self, pictures: list[np.ndarray]) -> Tensor:
        """uint8 [height, width, 3] with sides of whole cells -> rows [cells of all pictures in order, text width]."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for i, picture in enumerate(pictures):
            by_size.setdefault(picture.shape[:2], []).append(i)
        patches, cos, sin, groups = [], [], [], []
        for (height, width), members in by_size.items():
            h, w, n = height // PATCH, width // PATCH, len(members)
            x = torch.from_numpy(np.stack([pictures[i] for i in members])).float() / 255
            x = (x - torch.tensor(MEAN)) / torch.tensor(STD)
            x = x.view(n, h, PATCH, w, PATCH, 3).permute(0, 1, 3, 5, 2, 4)
            patches.append(x.reshape(n * h * w, -1))
            c, s = self.rope(w, h)
            cos.append(c.repeat(n, 1, 1))
            sin.append(s.repeat(n, 1, 1))
            groups.append((n, h * w))
        tower = self.vision_tower
        x = tower.ln_pre(F.linear(torch.cat(patches), tower.patch_conv.weight.flatten(1)))
        rope = torch.cat(cos), torch.cat(sin)
        for layer in tower.transformer.layers:
            x = layer(x, rope, groups)
        return self.project(x, by_size)

    def project(self, x: Tensor, by_size: dict[tuple[int, ...], list[int]]) -> Tensor:
        """Merge the patches of each cell, project, and put the rows into the order of the pictures."""
        projector = self.multi_modal_projector
        x, at, cells, owner = projector.norm(x), 0, [], []
        for (height, width), members in by_size.items():
            h, w, n = height // PATCH // MERGE, width // PATCH // MERGE, len(members)
            one = x[at : at + n * h * w * MERGE * MERGE].view(n, h, MERGE, w, MERGE, -1).permute(0, 1, 3, 5, 2, 4)
            cells.append(one.reshape(n * h * w, -1))
            owner += [i for i in members for _ in range(h * w)]
            at += n * h * w * MERGE * MERGE
        x = projector.linear_1(projector.patch_merger.merging_layer(torch.cat(cells)))
        x = projector.linear_2(F.gelu(x))
        return x[torch.from_numpy(np.argsort(np.array(owner), kind="stable"))]


class LowRank(nn.Module):
    """W x + B A x, W frozen (Hu et al. 2021)."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.a = nn.Parameter(torch.randn(RANK, weight.shape[1]) * weight.shape[1] ** -0.5)
        self.b = nn.Parameter(torch.zeros(weight.shape[0], RANK))
        self.on = True

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        y = F.linear(x, self.weight)
        return y + F.linear(F.linear(x, self.a), self.b) if self.on else y


class Rows(nn.Module):
    """A matrix [vocabulary, width] of which some rows are trained and the others are frozen."""

    def __init__(self, weight: Tensor, ids: list[int]):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("ids", torch.tensor(ids), persistent=False)
        self.rows = nn.Parameter(weight[self.ids].clone())
        self.on = True

    def whole(self) -> Tensor:
        """The matrix with its trained rows."""
        return self.weight.index_copy(0, self.ids, self.rows) if self.on else self.weight


class Embedding(Rows):
    """Rows of token ids."""

    def forward(self, ids: Tensor) -> Tensor:
        """[...] int64 -> [..., width]."""
        return F.embedding(ids, self.whole())


class Head(Rows):
    """Logits of the vocabulary."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., vocabulary]."""
        return F.linear(x, self.whole())


class Seeing(nn.Module):
    """The text model with pictures: pads in its tokens become rows of the tower.

    Attributes:
        text: frozen but for low-rank changes of the matrices of its layers, and for rows of embedding and head.
        eyes: tower and projector.
        ids: the tokens whose rows of embedding and head are trained.
        changes: the changed modules by name.
    """

    def __init__(self, text: TriMode, eyes: Eyes, ids: Iterable[int] = (START, BREAK, END)):
        super().__init__()
        self.text, self.eyes, self.ids = text.requires_grad_(False), eyes, sorted(ids)
        text.encoder.embed_tokens = Embedding(text.encoder.embed_tokens.weight.data, self.ids)
        text.diffusion_head = Head(text.diffusion_head.weight.data, self.ids)
        self.changes: dict[str, LowRank | Rows] = {
            "encoder.embed_tokens": text.encoder.embed_tokens,
            "diffusion_head": text.diffusion_head,
        }
        for i, layer in enumerate(text.encoder.layers):
            for part in ("self_attn", "mlp"):
                module = getattr(layer, part)
                for name in LOW_RANK:
                    if hasattr(module, name):
                        change = LowRank(getattr(module, name).weight.data)
                        setattr(module, name, change)
                        self.changes[f"encoder.layers.{i}.{part}.{name}"] = change
        self.seen: Tensor | None = None
        text.encoder.embed_tokens.register_forward_hook(self.place)

    def place(self, _: nn.Module, inputs: tuple, embedded: Tensor) -> Tensor:
        """Put the rows of pictures into what is embedded."""
        pads = inputs[0] == PAD
        return embedded.masked_scatter(pads[..., None], self.seen) if pads.any() else embedded

    def switch(self, on: bool) -> None:
        """Turn the changes on, or off: then it is the text model as it was."""
        for change in self.changes.values():
            change.on = on


def image_ids(picture: np.ndarray) -> list[int]:
    """The tokens of a picture: a pad for each cell, a break after each row, an end after the last."""
    rows, columns = (side // PATCH // MERGE for side in picture.shape[:2])
    return [START, *(([PAD] * columns + [BREAK]) * rows)[:-1], END]
