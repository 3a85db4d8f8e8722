"""The vision tower of a GGUF model back to a checkpoint: settings and tensors of the mmproj file beside it."""

from __future__ import annotations

from typing import Any

from pytrimode.convert.checkpoint.checkpoint import VLM_MODEL_TYPE
from pytrimode.convert.gguf_input import GgufInput
from pytrimode.convert.vision.config import PATCH, ROPE_THETA, VisionConfig
from pytrimode.gguf import vision_keys as keys
from pytrimode.gguf.errors import ConversionError


def vision_config_of(file: GgufInput, text_hidden: int) -> VisionConfig:
    """Return the settings. Raises ConversionError when the file lacks one or belongs to a model of another width."""

    def number(key: str) -> int:
        value = file.value(key)
        if not isinstance(value, int):
            raise ConversionError(f"{file.path}: {key} is missing: not a vision tower of trimode-convert")
        return value

    if file.value(keys.PROJECTOR_TYPE) != keys.PIXTRAL:
        found = file.value(keys.PROJECTOR_TYPE)
        raise ConversionError(f"{file.path}: {keys.PROJECTOR_TYPE}: expected {keys.PIXTRAL}, found {found}")
    if number(keys.PROJECTION_DIM) != text_hidden:
        raise ConversionError(
            f"{file.path}: {keys.PROJECTION_DIM}: {number(keys.PROJECTION_DIM)}, the model beside it has rows of "
            f"{text_hidden}: it belongs to another model, remove it"
        )
    return VisionConfig(
        hidden=number(keys.EMBEDDING_LENGTH),
        ffn=number(keys.FEED_FORWARD_LENGTH),
        n_layers=number(keys.BLOCK_COUNT),
        n_heads=number(keys.HEAD_COUNT),
        image_size=number(keys.IMAGE_SIZE),
        act="silu" if file.value(keys.USE_SILU) else "gelu",
        merge=number(keys.SPATIAL_MERGE_SIZE),
        projector_bias=any(tensor.name == "mm.1.bias" for tensor in file.tensors),
        text_hidden=text_hidden,
        token_ids={"pad": number(keys.TOKEN_ID.format("pad"))},
    )


def vision_settings(config: VisionConfig) -> dict[str, Any]:
    """Return what config.json says of it, beside the settings of the text model."""
    return {
        "architectures": ["NemotronLabsDiffusionVLMModel"],
        "model_type": VLM_MODEL_TYPE,
        "image_token_id": config.token_ids["pad"],
        "spatial_merge_size": config.merge,
        "vision_feature_layer": -1,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": config.projector_bias,
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": config.hidden,
            "num_attention_heads": config.n_heads,
            "head_dim": config.hidden // config.n_heads,
            "num_hidden_layers": config.n_layers,
            "intermediate_size": config.ffn,
            "patch_size": PATCH,
            "image_size": config.image_size,
            "num_channels": 3,
            "hidden_act": config.act,
            "rope_parameters": {"rope_theta": ROPE_THETA, "rope_type": "default"},
        },
    }
