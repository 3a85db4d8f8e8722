"""Independent implementations that the engine is held against: transformers' Ministral3 and plain-Python decoding."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Ministral3Config, Ministral3ForCausalLM

from .synthetic import load_weights

Logits = Callable[..., NDArray[np.float32]]


def ministral3(checkpoint: Path) -> Any:
    """transformers' Ministral3 in F32 with the weights of a checkpoint, its tensors renamed."""
    config = json.loads((checkpoint / "config.json").read_text())
    known = {
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_parameters",
    }
    model = Ministral3ForCausalLM(
        Ministral3Config(**{k: config[k] for k in known}, tie_word_embeddings=False, attn_implementation="eager")
    )
    state = {
        name.replace("encoder.", "model.").replace("diffusion_head.", "lm_head."): torch.from_numpy(weights)
        for name, weights in load_weights(checkpoint).items()
    }
    model.load_state_dict(state, strict=True)
    return model.float().eval()


def reference_logits(model: Any, tokens: Sequence[int], block_start: int | None = None) -> NDArray[np.float32]:
    """[n, vocab]: causal rows; rows from `block_start` on see each other in both directions."""
    n = len(tokens)
    visible = torch.ones(n, n, dtype=torch.bool).tril()
    if block_start is not None:
        visible[block_start:, block_start:] = True
    mask = torch.zeros(n, n).masked_fill(~visible, torch.finfo(torch.float32).min)
    with torch.no_grad():
        out = model(torch.tensor([tokens]), attention_mask=mask[None, None], use_cache=False)
    return out.logits[0].numpy()


def argmax(row: NDArray[np.float32], mask_id: int) -> int:
    """The highest logit, the lowest id among equals, never the mask id."""
    row = row.copy()
    row[mask_id] = -math.inf
    return int(row.argmax())


def probability(row: NDArray[np.float32], mask_id: int) -> float:
    """Softmax probability of the argmax, the mask id left out."""
    row = row.astype(np.float64)
    row[mask_id] = -math.inf
    return float(1 / np.exp(row - row.max()).sum())


def lead(row: NDArray[np.float32], mask_id: int) -> float:
    """How much more probable the best token is than the second, the mask id left out."""
    row = row.astype(np.float64)
    row[mask_id] = -math.inf
    second, first = np.sort(np.exp(row - row.max()))[-2:]
    return float((first - second) / np.exp(row - row.max()).sum())


def diffusion(
    logits: Logits, prompt: Sequence[int], *, block: int, threshold: float, max_tokens: int, mask: int, ends: set[int],
    reveal: str = "confidence", steps: int = 0,
) -> tuple[list[int], int]:  # fmt: skip
    """Block diffusion as reference.md of the model family describes it, one step after the other: (tokens, NFE).

    `steps`: so many passes for each block, an equal share of what is masked in each; 0: by the threshold.
    """
    known, out, passes = list(prompt), [], 0
    seed = argmax(logits(known)[-1], mask)
    while True:
        out.append(seed)
        if seed in ends or len(out) >= max_tokens:
            return out, passes
        width = min(block, max_tokens - len(out) + 1)
        current: list[int | None] = [seed] + [None] * (width - 1)
        step = 0
        while None in current:
            rows = logits([*known, *(mask if t is None else t for t in current)], block_start=len(known))[-width:]
            passes += 1
            open_ = [i for i, t in enumerate(current) if t is None]
            sure = {i: probability(rows[i], mask) for i in open_}
            if reveal == "confidence":
                open_.sort(key=lambda i: -sure[i])
            elif reveal == "margin":
                sure = {i: lead(rows[i], mask) for i in open_}
                open_[1:] = sorted(open_[1:], key=lambda i: -sure[i])
            if steps:
                n = math.ceil(len(open_) / max(steps - step, 1))
            else:
                n = next((k for k, i in enumerate(open_) if k > 0 and sure[i] < threshold), len(open_))
            for i in open_[:n]:
                current[i] = argmax(rows[i], mask)
            step += 1
            done = current[1 : current.index(None)] if None in current else current[1:]
            for i, token in enumerate(done):
                if token in ends:
                    return [*out, *(t for t in done[: i + 1] if t is not None)], passes
        out += [t for t in current[1:] if t is not None]
        if len(out) >= max_tokens:
            return out, passes
        known += [t for t in current if t is not None]
        seed = argmax(logits(known)[-1], mask)
        passes += 1


def prompts(n: int, vocab: int, lengths: Iterator[int], seed: int) -> list[list[int]]:
    """Random prompts of ordinary tokens behind the BOS."""
    rng = np.random.default_rng(seed)
    return [[1, *(int(t) for t in rng.integers(128, vocab, next(lengths)))] for _ in range(n)]
