"""config.json and generation_config.json from the metadata of a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from pytrimode.convert.checkpoint.checkpoint import CONFIG, GENERATION_CONFIG, MODEL_TYPE
from pytrimode.convert.checkpoint.hparams import Hyperparameters, Rope
from pytrimode.convert.gguf_input import GgufInput
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError

SPECIAL_TOKENS = {
    "bos": keys.TOKENIZER_BOS,
    "eos": keys.TOKENIZER_EOS,
    "pad": keys.TOKENIZER_PAD,
    "unk": keys.TOKENIZER_UNK,
    "mask": keys.TOKENIZER_MASK,
}


def hyperparameters_of(file: GgufInput) -> Hyperparameters:
    """Return the hyperparameters. Raises ConversionError when the file lacks one."""

    def number(key: str) -> Any:
        value = file.value(key)
        if not isinstance(value, (int, float)):
            raise ConversionError(f"{file.path}: {key} is missing: not a model of trimode-convert")
        return value

    def shortest(key: str, default: float | None = None) -> float:
        # A 32-bit float, as the shortest decimal that gives it: 1e-5, not 9.99999974e-06.
        value = default if default is not None and file.value(key) is None else number(key)
        return _shortest(value)

    rope = Rope(
        theta=shortest(keys.ROPE_FREQ_BASE),
        factor=shortest(keys.ROPE_SCALING_FACTOR),
        original_context=number(keys.ROPE_ORIGINAL_CONTEXT),
        beta_fast=shortest(keys.YARN_BETA_FAST),
        beta_slow=shortest(keys.YARN_BETA_SLOW),
        log_multiplier=shortest(keys.YARN_LOG_MULTIPLIER),
        query_scale_beta=shortest(keys.TEMPERATURE_SCALE, 0.0),
    )
    return Hyperparameters(
        n_layers=number(keys.BLOCK_COUNT),
        hidden=number(keys.EMBEDDING_LENGTH),
        ffn=number(keys.FEED_FORWARD_LENGTH),
        n_heads=number(keys.HEAD_COUNT),
        n_kv_heads=number(keys.HEAD_COUNT_KV),
        head_dim=number(keys.KEY_LENGTH),
        vocab_size=number(keys.VOCAB_SIZE),
        context=number(keys.CONTEXT_LENGTH),
        rms_epsilon=shortest(keys.RMS_EPSILON),
        rope=rope,
        block_length=number(keys.TRIMODE_BLOCK_LENGTH),
    )


def config_of(file: GgufInput, hparams: Hyperparameters, vision: Mapping[str, Any] | None = None) -> dict[str, str]:
    """File name -> text of the two configuration files; `vision`: see `vision_settings`."""
    rope = hparams.rope
    parameters: dict[str, Any] = {
        "rope_type": "yarn",
        "rope_theta": rope.theta,
        "factor": rope.factor,
        "original_max_position_embeddings": rope.original_context,
        "beta_fast": rope.beta_fast,
        "beta_slow": rope.beta_slow,
    }
    if rope.log_multiplier:
        parameters |= {"mscale": 1.0, "mscale_all_dim": rope.log_multiplier}
    if rope.query_scale_beta:
        parameters["llama_4_scaling_beta"] = rope.query_scale_beta
    ids = {f"{name}_token_id": file.value(key) for name, key in SPECIAL_TOKENS.items()}
    source = file.value(keys.TRIMODE_SOURCE_MODEL)
    config = {
        "architectures": ["NemotronLabsDiffusionModel"],
        "model_type": MODEL_TYPE,
        **({"_name_or_path": source} if isinstance(source, str) and "/" in source else {}),
        "hidden_size": hparams.hidden,
        "num_hidden_layers": hparams.n_layers,
        "intermediate_size": hparams.ffn,
        "num_attention_heads": hparams.n_heads,
        "num_key_value_heads": hparams.n_kv_heads,
        "head_dim": hparams.head_dim,
        "vocab_size": hparams.vocab_size,
        "max_position_embeddings": hparams.context,
        "rms_norm_eps": hparams.rms_epsilon,
        "rope_parameters": parameters,
        "block_size": hparams.block_length,
        "dlm_paradigm": "bidirectional",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "sliding_window": None,
        "tie_word_embeddings": False,
        **ids,
        **(vision or {}),
    }
    ends = [
        token
        for key in (keys.TOKENIZER_EOS, keys.TOKENIZER_EOT, keys.TOKENIZER_EOM)
        if (token := file.value(key)) is not None
    ]
    generation = {"bos_token_id": ids["bos_token_id"], "eos_token_id": ends[0] if len(ends) == 1 else ends}
    return {CONFIG: json.dumps(config, indent=1), GENERATION_CONFIG: json.dumps(generation, indent=1)}


def _shortest(value: float) -> float:
    return float(str(np.float32(value)))
