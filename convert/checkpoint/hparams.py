"""The model's hyperparameters: read from config.json, checked, and written as llama.cpp's `mistral3` expects them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytrimode.convert.checkpoint.json_file import JsonObject
from pytrimode.gguf import keys
from pytrimode.gguf.keys import DEFAULT_BLOCK_LENGTH, DEFAULT_THRESHOLD
from pytrimode.gguf.metadata import Metadata


@dataclass(frozen=True)
class Rope:
    """YaRN position embedding, and the query scale that goes with it.

    Attributes:
        theta: base of the frequencies.
        factor: YaRN's context extension; below 1 for the 3B base checkpoint.
        original_context: positions before the extension; the query scale starts here too.
        beta_fast: rotations per context above which a dimension is not interpolated.
        beta_slow: rotations per context below which a dimension is fully interpolated.
        log_multiplier: mscale_all_dim. With mscale 1 it cancels ggml's own factor on cos and sin.
        query_scale_beta: q is scaled by 1 + beta * ln(1 + floor(pos / original_context)); 0 for none.
    """

    theta: float
    factor: float
    original_context: int
    beta_fast: float
    beta_slow: float
    log_multiplier: float
    query_scale_beta: float

    @classmethod
    def from_config(cls, config: JsonObject) -> Rope:
        """Read rope_parameters, or what transformers 4 wrote instead: rope_theta and rope_scaling.

        Raises ConversionError for anything that llama.cpp's graph would not do.
        """
        rope = _rope_parameters(config)
        rope.require("rope_type", ("yarn",), "only YaRN checkpoints are known")
        rope.require("partial_rotary_factor", (None, 1, 1.0), "llama.cpp rotates the whole head")
        rope.require("truncate", (None, True), "llama.cpp rounds YaRN's correction range")
        # transformers ignores both unless both are given and not zero; llama.cpp assumes that mscale is 1.
        has_mscale = bool(rope.get("mscale")) and bool(rope.get("mscale_all_dim"))
        if has_mscale:
            rope.require("mscale", (1, 1.0), "llama.cpp assumes 1")
        _check_attention_factor(rope, has_mscale)
        return cls(
            theta=rope.positive("rope_theta"),
            factor=rope.positive("factor"),
            original_context=rope.integer("original_max_position_embeddings"),
            beta_fast=rope.positive("beta_fast") if rope.get("beta_fast") is not None else 32.0,
            beta_slow=rope.positive("beta_slow") if rope.get("beta_slow") is not None else 1.0,
            log_multiplier=rope.positive("mscale_all_dim") if has_mscale else 0.0,
            query_scale_beta=rope.positive("llama_4_scaling_beta") if rope.get("llama_4_scaling_beta") else 0.0,
        )


def _rope_parameters(config: JsonObject) -> JsonObject:
    if config.get("rope_parameters") is not None or config.get("rope_scaling") is None:
        return config.object("rope_parameters")
    scaling = config.object("rope_scaling")
    rope_type = scaling.get("rope_type", scaling.get("type"))
    return JsonObject({"rope_theta": config.get("rope_theta"), **scaling, "rope_type": rope_type}, scaling.where)


def _check_attention_factor(rope: JsonObject, has_mscale: bool) -> None:
    """Refuse a factor of attention other than that which follows from the rest.

    Source: `_compute_yarn_parameters` in transformers' modeling_rope_utils.py; mscale is 1.
    """
    if rope.get("attention_factor") is None:
        return
    factor = rope.positive("factor")
    gain = 0.1 * math.log(factor) if factor > 1 else 0.0
    derived = 1.0 + gain
    if has_mscale:
        derived /= 1.0 + gain * rope.positive("mscale_all_dim")
    if not math.isclose(rope.positive("attention_factor"), derived, rel_tol=1e-5):
        raise rope.error("attention_factor", f"{derived:g}: llama.cpp derives it from factor and mscale_all_dim")


@dataclass(frozen=True)
class Hyperparameters:
    """Shape and constants of the decoder, under transformers' meaning of each."""

    n_layers: int
    hidden: int
    ffn: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    context: int
    rms_epsilon: float
    rope: Rope
    block_length: int

    @classmethod
    def from_config(cls, config: JsonObject) -> Hyperparameters:
        """Read config.json. Raises ConversionError that names the key which is missing, bad or unsupported."""
        config.require("hidden_act", ("silu",), "the graph has SwiGLU only")
        config.require("tie_word_embeddings", (False, None), "the head of a tri-mode checkpoint is its own tensor")
        config.require("attention_bias", (False, None), "the graph has no biases")
        config.require("mlp_bias", (False, None), "the graph has no biases")
        config.require("sliding_window", (None,), "the graph attends to the whole context")
        hidden, n_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
        n_kv_heads = config.integer("num_key_value_heads", maximum=n_heads)
        if n_heads % n_kv_heads:
            raise config.error("num_key_value_heads", f"a divisor of num_attention_heads ({n_heads})")
        head_dim = config.integer("head_dim") if config.get("head_dim") is not None else hidden // n_heads
        if head_dim < 2 or head_dim % 2:
            raise config.error("head_dim", "an even number")
        return cls(
            n_layers=config.integer("num_hidden_layers", maximum=512),
            hidden=hidden,
            ffn=config.integer("intermediate_size"),
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            head_dim=head_dim,
            vocab_size=config.integer("vocab_size"),
            context=config.integer("max_position_embeddings"),
            rms_epsilon=config.positive("rms_norm_eps"),
            rope=Rope.from_config(config),
            block_length=config.integer("block_size") if config.get("block_size") else DEFAULT_BLOCK_LENGTH,
        )

    def add_to(self, metadata: Metadata) -> None:
        """Write them, as llama.cpp's `src/models/mistral3.cpp` and `llama_model::load_hparams` read them."""
        metadata.u32(keys.VOCAB_SIZE, self.vocab_size)
        metadata.u32(keys.CONTEXT_LENGTH, self.context)
        metadata.u32(keys.EMBEDDING_LENGTH, self.hidden)
        metadata.u32(keys.BLOCK_COUNT, self.n_layers)
        metadata.u32(keys.FEED_FORWARD_LENGTH, self.ffn)
        metadata.u32(keys.HEAD_COUNT, self.n_heads)
        metadata.u32(keys.HEAD_COUNT_KV, self.n_kv_heads)
        # Explicit: llama.cpp would take hidden / heads.
        metadata.u32(keys.KEY_LENGTH, self.head_dim)
        metadata.u32(keys.VALUE_LENGTH, self.head_dim)
        metadata.f32(keys.RMS_EPSILON, self.rms_epsilon)
        metadata.u32(keys.ROPE_DIMENSION_COUNT, self.head_dim)
        metadata.f32(keys.ROPE_FREQ_BASE, self.rope.theta)
        metadata.string(keys.ROPE_SCALING_TYPE, "yarn")
        metadata.f32(keys.ROPE_SCALING_FACTOR, self.rope.factor)
        metadata.u32(keys.ROPE_ORIGINAL_CONTEXT, self.rope.original_context)
        metadata.f32(keys.YARN_BETA_FAST, self.rope.beta_fast)
        metadata.f32(keys.YARN_BETA_SLOW, self.rope.beta_slow)
        metadata.f32(keys.YARN_LOG_MULTIPLIER, self.rope.log_multiplier)
        if self.rope.query_scale_beta:
            metadata.f32(keys.TEMPERATURE_SCALE, self.rope.query_scale_beta)
        metadata.boolean(keys.DIFFUSION_SHIFT_LOGITS, False)
        metadata.u32(keys.TRIMODE_BLOCK_LENGTH, self.block_length)
        metadata.f32(keys.TRIMODE_THRESHOLD, DEFAULT_THRESHOLD)
