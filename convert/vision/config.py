"""The settings of the vision tower: read from config.json, and refused where llama.cpp's `pixtral` would differ.

Sources: transformers' `PixtralVisionConfig` and `Mistral3Config`; llama.cpp `tools/mtmd/clip.cpp`, which has patch
order, rope and norms built in and reads no key for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytrimode.convert.checkpoint.checkpoint import Checkpoint
from pytrimode.convert.checkpoint.hparams import Hyperparameters
from pytrimode.convert.checkpoint.json_file import JsonObject
from pytrimode.convert.checkpoint.vocab import Vocab
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.vision_keys import IMAGE_TOKENS

PATCH = 14
ROPE_THETA = 10000.0
EPSILON = 1e-5
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's, of red, green and blue in 0 to 1."""
PREPROCESSOR_CONFIG = "preprocessor_config.json"


@dataclass(frozen=True)
class VisionConfig:
    """Shape and constants of the tower and the projector.

    Attributes:
        hidden: width of the tower.
        ffn: width of its feed-forward layers.
        n_layers: number of its layers.
        n_heads: heads of its attention.
        image_size: longest side, in pixels, that the tower was made for.
        act: of the feed-forward layers, "silu" or "gelu".
        merge: patches along the side of a cell; a cell becomes one row of the text model.
        projector_bias: whether the two layers of the projector have biases.
        text_hidden: width of the text model.
        token_ids: id of each of `IMAGE_TOKENS`.
    """

    hidden: int
    ffn: int
    n_layers: int
    n_heads: int
    image_size: int
    act: str
    merge: int
    projector_bias: bool
    text_hidden: int
    token_ids: dict[str, int]

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, hparams: Hyperparameters, vocab: Vocab) -> VisionConfig:
        """Read it. Raises ConversionError that names the key whose value the tower's graph would not honour."""
        _check_preprocessing(checkpoint)
        return cls.from_config(checkpoint.config, hparams, _token_ids(checkpoint.config, vocab))

    @classmethod
    def from_config(cls, config: JsonObject, hparams: Hyperparameters, token_ids: dict[str, int]) -> VisionConfig:
        """Read config.json alone. Raises ConversionError as `from_checkpoint` does."""
        vision = config.object("vision_config")
        _check_tower(vision)
        _check_projector(config, hparams)
        hidden = vision.integer("hidden_size", maximum=1 << 16)
        n_heads = vision.integer("num_attention_heads", maximum=hidden)
        if hidden % (4 * n_heads):
            raise vision.error("num_attention_heads", f"a divisor of hidden_size / 4 ({hidden} / 4): rope turns pairs")
        vision.require("head_dim", (None, hidden // n_heads), "the heads must fill hidden_size")
        return cls(
            hidden=hidden,
            ffn=vision.integer("intermediate_size", maximum=1 << 18),
            n_layers=vision.integer("num_hidden_layers", maximum=512),
            n_heads=n_heads,
            image_size=vision.integer("image_size", minimum=PATCH, maximum=1 << 16),
            act=vision["hidden_act"],
            merge=config.integer("spatial_merge_size", maximum=16),
            projector_bias=bool(config.get("multimodal_projector_bias")),
            text_hidden=hparams.hidden,
            token_ids=token_ids,
        )


def _check_tower(vision: JsonObject) -> None:
    vision.require("model_type", ("pixtral",), "no other vision tower is known")
    vision.require("hidden_act", ("silu", "gelu"), "llama.cpp's tower knows these two")
    vision.require("patch_size", (PATCH,), "the model's preprocessing cuts cells of 28 pixels, two patches of 14")
    vision.require("num_channels", (None, 3), "pictures are red, green and blue")
    vision.require("rope_theta", (None, ROPE_THETA, int(ROPE_THETA)), "llama.cpp's tower has it built in")
    if vision.get("rope_parameters") is not None:
        rope = vision.object("rope_parameters")
        rope.require("rope_theta", (None, ROPE_THETA, int(ROPE_THETA)), "llama.cpp's tower has it built in")
        rope.require("rope_type", (None, "default", "axial"), "llama.cpp's tower turns by row and column")
    vision.require("attention_bias", (None, False), "llama.cpp's tower has no biases")
    vision.require("rms_norm_eps", (None, EPSILON), "the tower's norms have it built in")


def _check_projector(config: JsonObject, hparams: Hyperparameters) -> None:
    config.require("vision_feature_layer", (-1,), "the projector reads the tower's last layer")
    config.require("projector_hidden_act", ("gelu",), "llama.cpp's projector has GELU")
    config.require("spatial_merge_size", (2,), "the model's preprocessing cuts cells of 28 pixels, two patches of 14")
    config.require("multimodal_projector_bias", (None, False, True), "the biases are there or not")
    # The file has one epsilon for the tower's norms, 1e-5 in transformers, and the projector's, the text model's.
    if hparams.rms_epsilon != EPSILON:
        raise config.error("rms_norm_eps", f"{EPSILON} (as in the vision tower: the file has room for one)")


def _check_preprocessing(checkpoint: Checkpoint) -> None:
    """Check the mean and deviation, where the checkpoint says them."""
    settings = checkpoint.read_optional_json(PREPROCESSOR_CONFIG)
    for key, values in (("image_mean", MEAN), ("image_std", STD)):
        settings.require(key, (None, list(values)), "the model's preprocessing has CLIP's values")


def _token_ids(config: JsonObject, vocab: Vocab) -> dict[str, int]:
    """Return the ids by the tokenizer; config.json may repeat that of the pad."""
    ids = {}
    for name, text in IMAGE_TOKENS.items():
        if text not in vocab.tokens:
            raise ConversionError(f"the tokenizer has no token {text}: pictures have no place in a prompt")
        ids[name] = vocab.tokens.index(text)
    for key in ("image_token_id", "image_token_index"):
        config.require(key, (None, ids["pad"]), f"the tokenizer's {IMAGE_TOKENS['pad']} has another id")
    return ids
