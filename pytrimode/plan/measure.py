"""What the engine would take of each device's memory, asked from libllama and ggml without loading a model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytrimode import _native
from pytrimode.convert.checkpoint.names import Weight, expected_weights
from pytrimode.convert.lora import drafter_pairs
from pytrimode.gguf import keys
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.types import OUTPUT_TYPES, GgmlType
from pytrimode.gguf.writer import OutputTensor, encode_header
from pytrimode.plan.model_shape import ModelShape
from pytrimode.plan.weights import chosen_types

STAND_IN_TYPE = "q8_0"
"""Of the stand-in for a model of which only the shape is known: compute buffers hold quantized activations, in the same
size for all quantized types; files of floats need a little less."""


def measure(
    shape: ModelShape, *, n_ctx: int, n_parallel: int, n_batch: int, type_k: str, type_v: str, flash_attn: bool = True,
    n_gpu_layers: int = -1,
) -> list[_native.DeviceMemory]:  # fmt: skip
    """Bytes of `weights`, `kv_cache` and `compute` on each device, the CPU last. For a GGUF file of that file, for
    others in `STAND_IN_TYPE`.

    Raises ValueError for impossible options, RuntimeError for a file that the engine refuses.
    """
    with _files(shape) as (model, lora):
        return _native.plan_memory(
            str(model),
            lora_path=str(lora) if lora else None,
            n_gpu_layers=n_gpu_layers,
            n_ctx=n_ctx,
            n_parallel=n_parallel,
            n_batch=n_batch,
            type_k=type_k,
            type_v=type_v,
            flash_attn=flash_attn,
        )


@contextmanager
def _files(shape: ModelShape) -> Iterator[tuple[Path, Path | None]]:
    """Yield the model and its LoRA; for a mere shape, files whose data is one hole and takes no room on the disk."""
    if shape.gguf:
        yield shape.gguf, shape.lora_gguf
        return
    with tempfile.TemporaryDirectory(prefix="pytrimode-plan-") as directory:
        model, lora = Path(directory) / "model.gguf", Path(directory) / "lora.gguf"
        metadata = Metadata()
        metadata.string(keys.GENERAL_ARCHITECTURE, keys.ARCHITECTURE)
        metadata.u32(keys.GENERAL_FILE_TYPE, OUTPUT_TYPES[STAND_IN_TYPE].file_type)
        shape.hparams.add_to(metadata)
        metadata.string(keys.TOKENIZER_MODEL, "none")
        types = chosen_types(shape.hparams, STAND_IN_TYPE)
        _write_hollow(model, metadata, [(w, types[w.target]) for w in expected_weights(shape.hparams)])
        if shape.lora_rank:
            metadata = Metadata()
            metadata.string(keys.GENERAL_ARCHITECTURE, keys.ARCHITECTURE)
            metadata.string(keys.GENERAL_TYPE, "adapter")
            metadata.string(keys.ADAPTER_TYPE, "lora")
            metadata.f32(keys.ADAPTER_LORA_ALPHA, 1.0)
            pairs = drafter_pairs(shape.hparams, shape.lora_rank)
            _write_hollow(lora, metadata, [(pair, GgmlType.F32) for pair in pairs])
        yield model, lora if shape.lora_rank else None


def _write_hollow(path: Path, metadata: Metadata, weights: list[tuple[Weight, GgmlType]]) -> None:
    tensors = [OutputTensor(weight.target, weight.shape, kind, tuple) for weight, kind in weights]
    header = encode_header(metadata, tensors)
    with path.open("wb") as file:
        file.write(header)
        # Alignment pads each tensor by less than a block of it.
        file.truncate(len(header) + sum(tensor.n_bytes + 64 for tensor in tensors))
