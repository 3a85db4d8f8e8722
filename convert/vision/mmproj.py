"""The mmproj file: what stands in it, and in which types. llama.cpp's projector type `pixtral` with a patch merger.

Keys: llama.cpp `tools/mtmd/clip-impl.h`; the `trimode.vision.` keys are this project's own, others skip them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytrimode.convert.checkpoint.checkpoint import Checkpoint
from pytrimode.convert.checkpoint.hparams import Hyperparameters
from pytrimode.convert.checkpoint.vocab import Vocab
from pytrimode.convert.encode import SourceTensor, checkpoint_tensor, encoded_tensor
from pytrimode.convert.general import add_mmproj_general
from pytrimode.convert.vision.config import EPSILON, MEAN, PATCH, STD, VisionConfig
from pytrimode.convert.vision.names import EMBEDDING, IMAGE_BREAK, PATCH_EMBEDDING, match_tower
from pytrimode.gguf import vision_keys as keys
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.types import OUTPUT_TYPES, GgmlType
from pytrimode.gguf.writer import OutputTensor

MMPROJ_TYPES = ("f16", "q8_0", "f32", "bf16")
"""What its matrices may be stored in. BF16 kernels on a CPU round activations too: less exact than F16."""
DEFAULT_MMPROJ_TYPE = "f16"


@dataclass(frozen=True)
class Mmproj:
    """Tower and projector of a checkpoint, checked.

    Attributes:
        config: shape and constants.
        sources: where each tensor of the file comes from, in order.
    """

    config: VisionConfig
    sources: list[SourceTensor]

    @classmethod
    def open(cls, checkpoint: Checkpoint, hparams: Hyperparameters, vocab: Vocab) -> Mmproj | None:
        """Those of a vision and language model, None of any other. Raises ConversionError for what is not known."""
        if not checkpoint.has_vision:
            return None
        config = VisionConfig.from_checkpoint(checkpoint, hparams, vocab)
        sources = [checkpoint_tensor(checkpoint.weights, weight) for weight in match_tower(checkpoint, config)]
        return cls(config, [*sources, _image_break(checkpoint, config)])

    def metadata(self, checkpoint: Checkpoint, outtype: str) -> Metadata:
        """All that the file says of itself."""
        metadata = Metadata()
        add_mmproj_general(metadata, checkpoint, OUTPUT_TYPES[outtype].file_type)
        add_tower(metadata, self.config)
        return metadata

    def tensors(self, threads: int, outtype: str) -> list[OutputTensor]:
        """Return what to write: matrices in `outtype`, the rest in F32."""
        return [
            encoded_tensor(source, stored_kind(source.name, source.shape, outtype), threads) for source in self.sources
        ]


def add_tower(metadata: Metadata, config: VisionConfig) -> None:
    """Add the shape and the constants of tower and projector."""
    metadata.boolean(keys.HAS_VISION_ENCODER, True)
    metadata.string(keys.PROJECTOR_TYPE, keys.PIXTRAL)
    metadata.boolean(keys.USE_SILU if config.act == "silu" else keys.USE_GELU, True)
    metadata.u32(keys.IMAGE_SIZE, config.image_size)
    metadata.u32(keys.PATCH_SIZE, PATCH)
    metadata.u32(keys.EMBEDDING_LENGTH, config.hidden)
    metadata.u32(keys.FEED_FORWARD_LENGTH, config.ffn)
    metadata.u32(keys.BLOCK_COUNT, config.n_layers)
    metadata.u32(keys.HEAD_COUNT, config.n_heads)
    metadata.f32(keys.LAYER_NORM_EPSILON, EPSILON)
    metadata.u32(keys.PROJECTION_DIM, config.text_hidden)
    metadata.u32(keys.SPATIAL_MERGE_SIZE, config.merge)
    metadata.f32s(keys.IMAGE_MEAN, MEAN)
    metadata.f32s(keys.IMAGE_STD, STD)
    metadata.u32(keys.MAX_SIDE, keys.DEFAULT_MAX_SIDE)
    for name, token in config.token_ids.items():
        metadata.u32(keys.TOKEN_ID.format(name), token)


def stored_kind(name: str, shape: tuple[int, ...], outtype: str) -> GgmlType:
    """Return the type of a tensor in a file of type `outtype`.

    Vectors and the patches' kernel are F32: pixels are multiplied as they are. Rows that do not divide into blocks are
    F16.
    """
    if len(shape) != 2 or name == PATCH_EMBEDDING:
        return GgmlType.F32
    wanted = GgmlType[outtype.upper()]
    return GgmlType.F16 if shape[-1] % wanted.block else wanted


def _image_break(checkpoint: Checkpoint, config: VisionConfig) -> SourceTensor:
    """Return the embedding of `<|image_break|>`."""
    stored = checkpoint.weights.tensors[EMBEDDING]
    kind = GgmlType[stored.dtype]
    shape = (config.text_hidden,)
    offset = stored.offset + config.token_ids["break"] * kind.n_bytes(shape)
    return SourceTensor(IMAGE_BREAK, EMBEDDING, shape, kind, checkpoint.weights.file_of(EMBEDDING).data, offset)
