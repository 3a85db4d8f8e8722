"""The weights of the vision tower and the projector: name and shape in the checkpoint, name in the mmproj file."""

from __future__ import annotations

from collections.abc import Iterator

from pytrimode.convert.checkpoint.checkpoint import Checkpoint
from pytrimode.convert.checkpoint.names import IGNORED_SUFFIXES, Weight, vision_weights
from pytrimode.convert.vision.config import PATCH, VisionConfig
from pytrimode.gguf.errors import ConversionError

TOWER, PROJECTOR = "encoder.vision_tower.", "encoder.multi_modal_projector."
PATCH_EMBEDDING = "v.patch_embd.weight"
IMAGE_BREAK = "v.token_embd.img_break"
"""A row of the text model's embedding that llama.cpp puts between the rows of a picture."""
EMBEDDING = "encoder.embed_tokens.weight"


def tower_weights(config: VisionConfig) -> Iterator[Weight]:
    """All weights of tower and projector, in the order of the mmproj file; `IMAGE_BREAK` is none of them."""
    hidden, ffn = config.hidden, config.ffn
    yield Weight(f"{TOWER}patch_conv.weight", PATCH_EMBEDDING, (hidden, 3, PATCH, PATCH))
    yield Weight(f"{TOWER}ln_pre.weight", "v.pre_ln.weight", (hidden,))
    for i in range(config.n_layers):
        source, target = f"{TOWER}transformer.layers.{i}", f"v.blk.{i}"
        attention, feed_forward = f"{source}.attention", f"{source}.feed_forward"
        yield Weight(f"{source}.attention_norm.weight", f"{target}.ln1.weight", (hidden,))
        yield Weight(f"{attention}.q_proj.weight", f"{target}.attn_q.weight", (hidden, hidden), config.n_heads)
        yield Weight(f"{attention}.k_proj.weight", f"{target}.attn_k.weight", (hidden, hidden), config.n_heads)
        yield Weight(f"{attention}.v_proj.weight", f"{target}.attn_v.weight", (hidden, hidden))
        yield Weight(f"{attention}.o_proj.weight", f"{target}.attn_out.weight", (hidden, hidden))
        yield Weight(f"{source}.ffn_norm.weight", f"{target}.ln2.weight", (hidden,))
        yield Weight(f"{feed_forward}.gate_proj.weight", f"{target}.ffn_gate.weight", (ffn, hidden))
        yield Weight(f"{feed_forward}.up_proj.weight", f"{target}.ffn_up.weight", (ffn, hidden))
        yield Weight(f"{feed_forward}.down_proj.weight", f"{target}.ffn_down.weight", (hidden, ffn))
    yield from _projector_weights(config)


def _projector_weights(config: VisionConfig) -> Iterator[Weight]:
    hidden, text = config.hidden, config.text_hidden
    merged = config.merge * config.merge * hidden
    yield Weight(f"{PROJECTOR}norm.weight", "mm.input_norm.weight", (hidden,))
    yield Weight(f"{PROJECTOR}patch_merger.merging_layer.weight", "mm.patch_merger.weight", (hidden, merged))
    for number, n_in in ((1, hidden), (2, text)):
        yield Weight(f"{PROJECTOR}linear_{number}.weight", f"mm.{number}.weight", (text, n_in))
        if config.projector_bias:
            yield Weight(f"{PROJECTOR}linear_{number}.bias", f"mm.{number}.bias", (text,))


def match_tower(checkpoint: Checkpoint, config: VisionConfig) -> list[Weight]:
    """Return the weights of tower and projector, all found with their shapes and nothing besides.

    Raises ConversionError that names the tensor which is missing, misshapen or unknown.
    """
    weights = list(tower_weights(config))
    stored = checkpoint.weights.tensors
    for weight in weights:
        if weight.source not in stored:
            raise ConversionError(
                f"{checkpoint.path}: tensor {weight.source} is missing: config.json asks for a vision tower of "
                f"{config.n_layers} layers; --no-mmproj converts the text model alone"
            )
        found = stored[weight.source].shape
        if found != weight.shape:
            raise ConversionError(
                f"{checkpoint.weights.file_of(weight.source).path}: tensor {weight.source}: "
                f"expected shape {list(weight.shape)} (from config.json), found {list(found)}"
            )
    known = {weight.source for weight in weights}
    for tensor in vision_weights(checkpoint):
        if tensor.name not in known and not tensor.name.endswith(IGNORED_SUFFIXES):
            raise ConversionError(
                f"{checkpoint.weights.file_of(tensor.name).path}: tensor {tensor.name} has no place in the vision "
                f"tower or the projector: config.json and the weights do not belong together"
            )
    return weights
