"""The tri-mode network in torch: Ministral-3 decoder with an explicit attention mask.

Independent reference: transformers' `Ministral3ForCausalLM` (see `check_reference.py`). Formulas: YaRN (Peng et al.
2023, arXiv 2309.00071, section 3), the query scale of Llama 4 (`llama_4_scaling_beta` in rope_parameters).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from copying import write_copying
from torch import Tensor, nn


def yarn_frequencies(head_dim: int, rope: dict) -> Tensor:
    """Rotary frequencies [head_dim / 2] after YaRN's blend of interpolated and original ones.

    In float32 and in the order of operations of transformers: sharp attention heads turn a difference in the last bit
    of a frequency into 1e-3 of a logit at position 700.
    """
    theta, factor, original = rope["rope_theta"], rope["factor"], rope["original_max_position_embeddings"]
    period = theta ** (torch.arange(0, head_dim, 2).float() / head_dim)

    def dim_at(rotations: float) -> float:
        """The dimension that turns `rotations` times within the original context."""
        return head_dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(dim_at(rope["beta_fast"])), 0)
    high = min(math.ceil(dim_at(rope["beta_slow"])), head_dim - 1)
    high = high if high > low else low + 0.001
    keep = 1 - ((torch.arange(head_dim // 2).float() - low) / (high - low)).clamp(0, 1)
    return 1.0 / (factor * period) * (1 - keep) + 1.0 / period * keep


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate-half RoPE of x [R, heads, n, d] by cos, sin [R, 1, n, d].

    The attention factor is mscale / mscale_all_dim = 1: cos and sin are not scaled.
    """
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention; query heads share key heads in groups of heads / kv_heads."""

    def __init__(self, config: dict):
        super().__init__()
        hidden, d = config["hidden_size"], config["head_dim"]
        self.heads, self.kv_heads, self.head_dim = config["num_attention_heads"], config["num_key_value_heads"], d
        self.q_proj = nn.Linear(hidden, self.heads * d, bias=False)
        self.k_proj = nn.Linear(hidden, self.kv_heads * d, bias=False)
        self.v_proj = nn.Linear(hidden, self.kv_heads * d, bias=False)
        self.o_proj = nn.Linear(self.heads * d, hidden, bias=False)
        self.lora: nn.Module | None = None  # the drafter, set by lora.attach

    def forward(self, x: Tensor, rope: tuple, mask: Tensor, past: tuple | None, lora_from: int | None) -> tuple:
        """x [R, n, hidden], mask [R, 1, n, m] additive, past (k, v) [R, kv_heads, m - n, d] -> output, (k, v)."""
        rows, n, _ = x.shape
        cos, sin, query_scale = rope
        q = self.q_proj(x).view(rows, n, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(rows, n, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(rows, n, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin) * query_scale, rotate(k, cos, sin)
        if past is not None:
            k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        groups = self.heads // self.kv_heads
        y = F.scaled_dot_product_attention(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), mask)
        y = y.transpose(1, 2).reshape(rows, n, -1)
        out = self.o_proj(y)
        if lora_from is not None and self.lora is not None:  # draft rows only
            out = torch.cat((out[:, :lora_from], out[:, lora_from:] + self.lora(y[:, lora_from:])), 1)
        return out, (k, v)


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: dict):
        super().__init__()
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[R, n, hidden] -> [R, n, hidden]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Pre-norm decoder layer."""

    def __init__(self, config: dict):
        super().__init__()
        hidden, eps = config["hidden_size"], config["rms_norm_eps"]
        self.input_layernorm = nn.RMSNorm(hidden, eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(hidden, eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rope: tuple, mask: Tensor, past: tuple | None, lora_from: int | None) -> tuple:
        """As Attention.forward."""
        y, kv = self.self_attn(self.input_layernorm(x), rope, mask, past, lora_from)
        x = x + y
        return x + self.mlp(self.post_attention_layernorm(x)), kv


class TriMode(nn.Module):
    """The network; parameter names equal the checkpoint's tensor names."""

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        hidden, vocab = config["hidden_size"], config["vocab_size"]
        self.encoder = nn.Module()
        self.encoder.embed_tokens = nn.Embedding(vocab, hidden)
        self.encoder.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.encoder.norm = nn.RMSNorm(hidden, config["rms_norm_eps"])
        self.diffusion_head = nn.Linear(hidden, vocab, bias=False)
        self.register_buffer("frequencies", yarn_frequencies(config["head_dim"], config["rope_parameters"]), False)
        self.initialise()

    def initialise(self) -> None:
        """Normal weights; the projections back into the residual stream start small, by depth."""
        depth = math.sqrt(2 * len(self.encoder.layers))
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                std = 0.5 if "embed" in name else weight.shape[1] ** -0.5
                nn.init.normal_(
                    weight, std=std / depth if name.endswith(("o_proj.weight", "down_proj.weight")) else std
                )

        with torch.no_grad():
            write_copying(self)

    def rope(self, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """cos, sin [R, 1, n, d] and the query scale 1 + beta ln(1 + floor(pos / original)) [R, 1, n, 1]."""
        rope = self.config["rope_parameters"]
        angles = position[:, None, :, None].float() * self.frequencies
        angles = torch.cat((angles, angles), -1)
        steps = torch.floor(position / rope["original_max_position_embeddings"])
        scale = 1 + rope["llama_4_scaling_beta"] * torch.log1p(steps)
        return angles.cos(), angles.sin(), scale[:, None, :, None]

    def hidden(
        self, ids: Tensor, position: Tensor, visible: Tensor, past: list | None = None, lora_from: int | None = None
    ) -> tuple[Tensor, list]:
        """Final hidden states and keys/values.

        ids, position [R, n] int64; visible [R, n, m] bool with m = cached + n; past: per layer (k, v). The drafter LoRA
        is applied to the rows from `lora_from` on (None: nowhere). Returns normed [R, n, hidden] and per layer (k, v).
        """
        mask = torch.zeros(visible.shape, dtype=torch.float32).masked_fill_(~visible, -torch.inf)[:, None]
        rope = self.rope(position)
        x = self.encoder.embed_tokens(ids)
        kept = []
        for i, layer in enumerate(self.encoder.layers):
            x, kv = layer(x, rope, mask, past[i] if past else None, lora_from)
            kept.append(kv)
        return self.encoder.norm(x), kept

    def forward(
        self, ids: Tensor, position: Tensor, visible: Tensor, past: list | None = None, lora_from: int | None = None
    ) -> tuple[Tensor, list]:
        """Logits [R, n, vocab] and keys/values; arguments as `hidden`."""
        x, kept = self.hidden(ids, position, visible, past, lora_from)
        return self.diffusion_head(x), kept
