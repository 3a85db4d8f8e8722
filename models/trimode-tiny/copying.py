"""Initial weights that already copy: a previous-token head, an induction head and a head matrix aligned with them.

Copying from the prompt is what every task here needs and what a small network finds last: from random weights 400 steps
did not teach it. The circuit is that of Elhage et al. 2021 and Olsson et al. 2022 ("induction heads"), written into a
few rows of the weights of layers 0 and 1. Everything else starts random, and everything is trained.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

CONSTANT = 2.0  # entry 0 of every embedding, so that a projection can make position-only queries and keys
SHARP = 6.3  # amplitude of the position-only queries and keys
MATCH = 1.6  # gain of the content match of the induction head
FAST_PAIRS = 6  # rotary pairs that tell neighbours apart
SLOW_FROM = 10  # rotary pairs from here on hardly turn within a conversation


def write_copying(model: nn.Module) -> None:
    """Overwrite the parts of freshly initialised weights that make up the circuit."""
    hidden, d = model.config["hidden_size"], model.config["head_dim"]
    rms = 0.5  # of the random embeddings
    basis = torch.zeros(hidden, hidden)
    basis[1:, 1:] = torch.linalg.qr(torch.randn(hidden - 1, hidden - 1))[0]
    content, previous, second, _ = basis[:, 1:].split([d, d, d, hidden - 1 - 3 * d], 1)
    layers, embedding = model.encoder.layers, model.encoder.embed_tokens.weight
    embedding[:, 0] = CONSTANT
    for kind in (layers[0].self_attn, layers[1].self_attn):
        for projection in (kind.q_proj, kind.k_proj, kind.v_proj):
            projection.weight[:, 0] *= 0.1  # the constant is for positions only
    previous_token(layers[0].self_attn, model.frequencies, CONSTANT / math.hypot(rms, CONSTANT / math.sqrt(hidden)), d)
    write_value(layers[0].self_attn, content.T, (previous, second), d)
    induction(layers[1].self_attn, content, previous, d)
    turn = torch.linalg.qr(torch.randn(hidden, hidden))[0]  # keeps "the next token is t" apart from "this token is t"
    write_value(layers[1].self_attn, content.T, (2.0 * turn @ content, 2.0 * turn @ content), d)
    model.diffusion_head.weight.copy_(0.15 * (embedding.clone().index_fill_(1, torch.tensor([0]), 0.0) @ turn.T))
    model.diffusion_head.weight.add_(torch.randn_like(model.diffusion_head.weight), alpha=0.02)


def previous_token(attention: nn.Module, frequencies: Tensor, constant: float, d: int) -> None:
    """Query heads 0 and 1 look one and two tokens back: q rotated back by the offset meets a constant key there."""
    q, k = attention.q_proj.weight, attention.k_proj.weight
    half = d // 2
    k[:FAST_PAIRS] = k[half : half + FAST_PAIRS] = 0
    k[:FAST_PAIRS, 0] = SHARP / constant
    for head in (0, 1):
        q[head * d : (head + 1) * d] = 0
        angle = frequencies[:FAST_PAIRS] * (head + 1)
        q[head * d : head * d + FAST_PAIRS, 0] = angle.cos() * SHARP / constant
        q[head * d + half : head * d + half + FAST_PAIRS, 0] = -angle.sin() * SHARP / constant


def induction(attention: nn.Module, content: Tensor, previous: Tensor, d: int) -> None:
    """Query heads 0 and 1: this token's content matches what a key row knows of its previous token, wherever it is."""
    q, k = attention.q_proj.weight, attention.k_proj.weight
    half = d // 2
    slow = torch.cat((torch.arange(SLOW_FROM, half), torch.arange(half + SLOW_FROM, d)))
    k[:d] = 0
    k[slow] = MATCH * previous.T[: len(slow)]
    for head in (0, 1):
        q[head * d : (head + 1) * d] = 0
        q[head * d + slow] = MATCH * content.T[: len(slow)]


def write_value(attention: nn.Module, read: Tensor, write: tuple[Tensor, Tensor], d: int) -> None:
    """Key head 0 reads [d, hidden] as its value; query heads 0 and 1 write it along `write` [hidden, d]."""
    attention.v_proj.weight[:d] = read
    for head, columns in enumerate(write):
        attention.o_proj.weight[:, head * d : (head + 1) * d] = columns
