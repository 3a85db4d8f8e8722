"""GGUF metadata keys of an mmproj file, the vision tower beside a text model, and what they say of the usual one.

Sources: llama.cpp `tools/mtmd/clip-impl.h`; the `trimode.vision.` keys are this project's own.
"""

from typing import Final

ARCHITECTURE: Final = "clip"
TYPE: Final = "mmproj"
PIXTRAL: Final = "pixtral"

HAS_VISION_ENCODER: Final = "clip.has_vision_encoder"
PROJECTOR_TYPE: Final = "clip.projector_type"
USE_SILU: Final = "clip.use_silu"
USE_GELU: Final = "clip.use_gelu"
IMAGE_SIZE: Final = "clip.vision.image_size"
PATCH_SIZE: Final = "clip.vision.patch_size"
EMBEDDING_LENGTH: Final = "clip.vision.embedding_length"
FEED_FORWARD_LENGTH: Final = "clip.vision.feed_forward_length"
BLOCK_COUNT: Final = "clip.vision.block_count"
HEAD_COUNT: Final = "clip.vision.attention.head_count"
LAYER_NORM_EPSILON: Final = "clip.vision.attention.layer_norm_epsilon"
PROJECTION_DIM: Final = "clip.vision.projection_dim"
SPATIAL_MERGE_SIZE: Final = "clip.vision.spatial_merge_size"
IMAGE_MEAN: Final = "clip.vision.image_mean"
IMAGE_STD: Final = "clip.vision.image_std"

MAX_SIDE: Final = "trimode.vision.max_side"
TOKEN_ID: Final = "trimode.vision.{}_token_id"
"""Of the tokens around and within a picture: start, pad, break, end."""

DEFAULT_MAX_SIDE: Final = 1400
"""Pixels of the longest side that a picture keeps; the model's own preprocessing."""
IMAGE_TOKENS: Final = {
    "start": "<|image_start|>",
    "pad": "<|image_pad|>",
    "break": "<|image_break|>",
    "end": "<|image_end|>",
}
"""What stands around and between the rows of a picture in a prompt, and for each of its cells."""
