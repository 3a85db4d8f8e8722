"""The numbers of a model file that the engine computes with, each in its range: part of `preflight`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytrimode.gguf import keys
from pytrimode.gguf.errors import printable
from pytrimode.gguf.header import GgufHeader

REMEDY = "a Nemotron-Labs-Diffusion model made by trimode-convert"
MAX_LAYERS = 512
"""LLAMA_MAX_LAYERS: libllama's arrays end there."""
MAX_SIDE = 1 << 24
"""Of a matrix; the largest of these models have 131,072."""
MAX_CONTEXT = 2**31 - 1
SCALINGS = ("none", "linear", "yarn")
"""RoPE scalings that the graph computes."""


@dataclass(frozen=True)
class Shape:
    """The sizes that the shapes of all tensors follow from."""

    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim: int

    def tensors(self, n_vocab: int) -> dict[str, tuple[int, ...]]:
        """Return each tensor's name and shape, the length of a row first."""
        q, kv = self.n_head * self.head_dim, self.n_head_kv * self.head_dim
        found: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (self.n_embd, n_vocab),
            "output.weight": (self.n_embd, n_vocab),
            "output_norm.weight": (self.n_embd,),
        }
        layer: dict[str, tuple[int, ...]] = {
            "attn_norm": (self.n_embd,),
            "attn_q": (self.n_embd, q),
            "attn_k": (self.n_embd, kv),
            "attn_v": (self.n_embd, kv),
            "attn_output": (q, self.n_embd),
            "ffn_norm": (self.n_embd,),
            "ffn_gate": (self.n_embd, self.n_ff),
            "ffn_up": (self.n_embd, self.n_ff),
            "ffn_down": (self.n_ff, self.n_embd),
        }
        for i in range(self.n_layer):
            found |= {f"blk.{i}.{name}.weight": shape for name, shape in layer.items()}
        return found


class Values:
    """The metadata of one file, read with the range of each value. Errors name file, key, value and range."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header

    def error(self, what: str) -> ValueError:
        """Return an error about the file."""
        return ValueError(printable(f"{self.header.path}: {what}"))

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Return an integer from `low` to `high`; without a default it must be there."""
        found = self.header.metadata.get(key, default)
        if found is None:
            raise self.missing(key)
        if type(found) is not int or not low <= found <= high:
            raise self.error(f"{key} is {shown(found)}, expected an integer from {low} to {high}")
        return found

    def number(self, key: str, default: float | None = None, *, above: float = -math.inf, most: float = 3e38) -> float:
        """Return a finite number above `above` and at most `most` in amount; without a default it must be there."""
        found = self.header.metadata.get(key, default)
        if found is None:
            raise self.missing(key)
        if isinstance(found, bool) or not isinstance(found, int | float) or not above < found or not abs(found) <= most:
            wanted = "a finite number" if above == -math.inf else f"a finite number above {above:g}"
            raise self.error(f"{key} is {shown(found)}, expected {wanted}")
        return float(found)

    def expect(self, key: str, expected: object) -> None:
        """Refuse another value than the one expected."""
        if (found := self.header.metadata.get(key)) != expected:
            raise self.error(f"{key} is {shown(found)}, expected {expected!r}")

    def text(self, key: str) -> str | None:
        """Return a text, None without the key."""
        found = self.header.metadata.get(key)
        if found is not None and not isinstance(found, str):
            raise self.error(f"{key} is {shown(found)}, expected a text")
        return found

    def missing(self, key: str) -> ValueError:
        """Return the error for a key that has to be there."""
        return self.error(f"metadata key {key} is missing; convert the checkpoint with trimode-convert")


def model_shape(values: Values) -> Shape:
    """Return a model's sizes. Raises ValueError for values that no graph can be made of."""
    n_layer = values.integer(keys.BLOCK_COUNT, 1, MAX_LAYERS)
    n_embd = values.integer(keys.EMBEDDING_LENGTH, 1, MAX_SIDE)
    n_ff = values.integer(keys.FEED_FORWARD_LENGTH, 1, MAX_SIDE)
    n_head = values.integer(keys.HEAD_COUNT, 1, MAX_SIDE)
    n_head_kv = values.integer(keys.HEAD_COUNT_KV, 1, MAX_SIDE, n_head)
    if n_head % n_head_kv:
        raise values.error(
            f"{keys.HEAD_COUNT_KV} is {n_head_kv}, expected a divisor of {keys.HEAD_COUNT}, which is {n_head}"
        )
    head_dim = values.integer(keys.KEY_LENGTH, 1, MAX_SIDE, n_embd // n_head)
    if head_dim % 2:
        raise values.error(f"{keys.KEY_LENGTH} is {head_dim}, expected an even number: RoPE turns pairs")
    for key in (keys.VALUE_LENGTH, keys.ROPE_DIMENSION_COUNT):
        if (found := values.integer(key, 1, MAX_SIDE, head_dim)) != head_dim:
            raise values.error(f"{key} is {found}, expected {head_dim} as in {keys.KEY_LENGTH}: the engine needs equal")
    context = values.integer(keys.CONTEXT_LENGTH, 1, MAX_CONTEXT)
    values.number(keys.RMS_EPSILON, above=0)
    values.number(keys.TEMPERATURE_SCALE, 0.0)
    for key in (keys.EXPERT_COUNT, keys.EXPERT_USED_COUNT):
        values.integer(key, 0, 0, 0)
    _check_rope(values, context)
    values.integer(keys.TRIMODE_BLOCK_LENGTH, 1, MAX_CONTEXT, keys.DEFAULT_BLOCK_LENGTH)
    values.number(keys.TRIMODE_THRESHOLD, keys.DEFAULT_THRESHOLD)
    return Shape(n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim)


def _check_rope(values: Values, context: int) -> None:
    values.number(keys.ROPE_FREQ_BASE, 10000.0, above=0)
    values.integer(keys.ROPE_ORIGINAL_CONTEXT, 1, MAX_CONTEXT, context)
    scaling = values.text(keys.ROPE_SCALING_TYPE)
    if scaling not in (None, *SCALINGS):
        raise values.error(f"{keys.ROPE_SCALING_TYPE} is {shown(scaling)}; supported: {', '.join(SCALINGS)}")
    scaled = scaling not in (None, "none")
    values.number(keys.ROPE_SCALING_FACTOR, None if scaled else 1.0, above=0)
    for key in (keys.YARN_BETA_FAST, keys.YARN_BETA_SLOW, keys.YARN_LOG_MULTIPLIER, keys.ROPE_ATTENTION_FACTOR):
        values.number(key, 1.0)


def shown(value: object) -> str:
    """Return the value for an error: a kilobyte of it says no more than its beginning."""
    text = repr(value) if not isinstance(value, tuple) else f"an array of {value[1]} values"
    return text if len(text) <= 80 else f"{text[:77]}..."
