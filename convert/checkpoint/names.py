"""The weights of a tri-mode checkpoint: name and shape there, name in the GGUF file, and what the RoPE layout needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytrimode.convert.checkpoint.checkpoint import FIRST_WEIGHT, Checkpoint
from pytrimode.convert.checkpoint.hparams import Hyperparameters
from pytrimode.convert.checkpoint.safetensors_file import StoredTensor
from pytrimode.gguf.errors import ConversionError

HEAD = "output.weight"
EMBEDDING = "token_embd.weight"
# Buffers that some exporters save along; they follow from config.json.
IGNORED_SUFFIXES = (".rotary_emb.inv_freq",)
VISION_PREFIXES = ("encoder.vision_tower.", "encoder.multi_modal_projector.")
"""Of a vision and language model, beside its text model."""


@dataclass(frozen=True)
class Weight:
    """One weight.

    Attributes:
        source: name in the checkpoint.
        target: name in the GGUF file.
        shape: row-major, (out, in) for matrices, as in PyTorch.
        rope_heads: for q and k, the number of heads whose rows go from the rotate-half to the interleaved order.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    rope_heads: int = 0


def expected_weights(hparams: Hyperparameters) -> Iterator[Weight]:
    """All weights of a model, in the order of the GGUF file."""
    hidden, ffn, vocab = hparams.hidden, hparams.ffn, hparams.vocab_size
    q_rows, kv_rows = hparams.n_heads * hparams.head_dim, hparams.n_kv_heads * hparams.head_dim
    yield Weight(FIRST_WEIGHT, EMBEDDING, (vocab, hidden))
    for i in range(hparams.n_layers):
        source, target = f"encoder.layers.{i}", f"blk.{i}"
        attention = f"{source}.self_attn"
        yield Weight(f"{source}.input_layernorm.weight", f"{target}.attn_norm.weight", (hidden,))
        yield Weight(f"{attention}.q_proj.weight", f"{target}.attn_q.weight", (q_rows, hidden), hparams.n_heads)
        yield Weight(f"{attention}.k_proj.weight", f"{target}.attn_k.weight", (kv_rows, hidden), hparams.n_kv_heads)
        yield Weight(f"{attention}.v_proj.weight", f"{target}.attn_v.weight", (kv_rows, hidden))
        yield Weight(f"{attention}.o_proj.weight", f"{target}.attn_output.weight", (hidden, q_rows))
        yield Weight(f"{source}.post_attention_layernorm.weight", f"{target}.ffn_norm.weight", (hidden,))
        yield Weight(f"{source}.mlp.gate_proj.weight", f"{target}.ffn_gate.weight", (ffn, hidden))
        yield Weight(f"{source}.mlp.up_proj.weight", f"{target}.ffn_up.weight", (ffn, hidden))
        yield Weight(f"{source}.mlp.down_proj.weight", f"{target}.ffn_down.weight", (hidden, ffn))
    yield Weight("encoder.norm.weight", "output_norm.weight", (hidden,))
    yield Weight("diffusion_head.weight", HEAD, (vocab, hidden))


def match_weights(checkpoint: Checkpoint, hparams: Hyperparameters) -> list[Weight]:
    """Return the weights of the text model, all found with their shapes and nothing besides but `vision_weights`.

    Raises ConversionError that names the tensor which is missing, misshapen or unknown.
    """
    weights = list(expected_weights(hparams))
    stored = checkpoint.weights.tensors
    missing = [weight.source for weight in weights if weight.source not in stored]
    if missing:
        raise ConversionError(
            f"{checkpoint.path}: tensor {missing[0]} is missing{_and_others(missing)}: "
            f"config.json asks for {hparams.n_layers} layers, the checkpoint is incomplete or of another model"
        )
    for weight in weights:
        found = stored[weight.source].shape
        if found != weight.shape:
            raise ConversionError(
                f"{checkpoint.weights.file_of(weight.source).path}: tensor {weight.source}: "
                f"expected shape {list(weight.shape)} (from config.json), found {list(found)}"
            )
    known = {weight.source for weight in weights} | {tensor.name for tensor in vision_weights(checkpoint)}
    extra = [name for name in stored if name not in known and not name.endswith(IGNORED_SUFFIXES)]
    if extra:
        raise ConversionError(
            f"{checkpoint.weights.file_of(extra[0]).path}: tensor {extra[0]} has no place in the model"
            f"{_and_others(extra)}: config.json and the weights do not belong together"
        )
    return weights


def vision_weights(checkpoint: Checkpoint) -> list[StoredTensor]:
    """Return what a vision and language model has beside its text model: its vision tower and projector."""
    if not checkpoint.has_vision:
        return []
    return [tensor for name, tensor in checkpoint.weights.tensors.items() if name.startswith(VISION_PREFIXES)]


def _and_others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
