"""What a GGUF model file is: a plain dictionary for people (`pytrimode info`) and programs (`--json`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pytrimode._native import has_product
from pytrimode.files.model_file import check_model_file
from pytrimode.gguf import keys, vision_keys
from pytrimode.gguf.file_names import lora_beside, mmproj_beside
from pytrimode.gguf.header import GgufHeader, TensorInfo, read_gguf_header
from pytrimode.gguf.preflight import check_model, read_parts
from pytrimode.options import modes

F16_BYTES = 2


def file_info(path: str | Path) -> dict[str, Any]:
    """Everything that the header tells, of a split model those of all parts; raises as `check_model_file`,
    `read_gguf_header` and `read_parts` do.

    A value that the file does not give is None.
    """
    file = check_model_file(path)
    header = read_gguf_header(file)
    headers = read_parts(header)
    tensors = [tensor for part in headers for tensor in part.tensors]
    n_params = sum(t.n_params for t in tensors)
    return {
        "file": str(file),
        "file_bytes": sum(part.file_bytes for part in headers),
        "gguf_version": header.version,
        "kind": header.metadata.get(keys.GENERAL_TYPE, "model"),
        "architecture": header.metadata.get(keys.GENERAL_ARCHITECTURE),
        "name": header.metadata.get(keys.GENERAL_NAME),
        "size_label": header.metadata.get(keys.GENERAL_SIZE_LABEL),
        "license": header.metadata.get(keys.GENERAL_LICENSE),
        "source": header.metadata.get(keys.TRIMODE_SOURCE_MODEL) or header.metadata.get(keys.GENERAL_SOURCE_URL),
        "n_params": n_params,
        "n_tensors": len(tensors),
        "tensor_types": _tensor_types(tensors),
        "left_to_llama_cpp": _left_to_llama_cpp(tensors),
        "bits_per_weight": round(8 * sum(t.n_bytes or 0 for t in tensors) / n_params, 2) if n_params else None,
        "shape": _shape(header.metadata),
        "rope": _rope(header.metadata),
        "tokenizer": _tokenizer(header.metadata),
        "modes": _modes(header),
        "drafter_lora": _drafter(file),
        "vision": _vision(header if _is_mmproj(header) else None, file),
    }


def _tensor_types(tensors: list[TensorInfo]) -> list[dict[str, Any]]:
    """By type, the largest part first."""
    count: Counter[str] = Counter()
    params: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        count[tensor.type] += 1
        params[tensor.type] += tensor.n_params
        sizes[tensor.type] += tensor.n_bytes or 0
    return [
        {"type": kind, "tensors": count[kind], "params": params[kind], "bytes": n_bytes}
        for kind, n_bytes in sizes.most_common()
    ]


def _left_to_llama_cpp(tensors: list[TensorInfo]) -> list[str]:
    """Types of weight matrices that the engine has no CPU product of its own for."""
    matrices = (t for t in tensors if len(t.shape) == 2 and not t.name.startswith("token_embd."))
    return sorted({t.type for t in matrices if not has_product(t.type, *t.shape)})


def _of_architecture(metadata: dict[str, Any], key: str) -> Any:
    """Return a hyperparameter: the keys name the engine's own architecture, a file may be of another."""
    suffix = key.removeprefix(keys.ARCHITECTURE)
    return metadata.get(f"{metadata.get(keys.GENERAL_ARCHITECTURE)}{suffix}")


def _shape(metadata: dict[str, Any]) -> dict[str, Any]:
    shape = {
        "context_length": _of_architecture(metadata, keys.CONTEXT_LENGTH),
        "layers": _of_architecture(metadata, keys.BLOCK_COUNT),
        "hidden": _of_architecture(metadata, keys.EMBEDDING_LENGTH),
        "feed_forward": _of_architecture(metadata, keys.FEED_FORWARD_LENGTH),
        "heads": _of_architecture(metadata, keys.HEAD_COUNT),
        "kv_heads": _of_architecture(metadata, keys.HEAD_COUNT_KV),
        "head_dim": _of_architecture(metadata, keys.KEY_LENGTH),
    }
    per_token = [shape[name] for name in ("layers", "kv_heads", "head_dim")]
    known = all(isinstance(value, int) for value in per_token)
    layers, kv_heads, head_dim = per_token if known else (0, 0, 0)
    shape["kv_cache_bytes_per_token_f16"] = 2 * layers * kv_heads * head_dim * F16_BYTES if known else None
    return shape


def _rope(metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "freq_base": _of_architecture(metadata, keys.ROPE_FREQ_BASE),
        "scaling": _of_architecture(metadata, keys.ROPE_SCALING_TYPE),
        "factor": _of_architecture(metadata, keys.ROPE_SCALING_FACTOR),
        "original_context": _of_architecture(metadata, keys.ROPE_ORIGINAL_CONTEXT),
        "attention_temperature_scale": _of_architecture(metadata, keys.TEMPERATURE_SCALE),
    }


def _tokenizer(metadata: dict[str, Any]) -> dict[str, Any]:
    tokens = metadata.get(keys.TOKENIZER_TOKENS)
    return {
        "model": metadata.get(keys.TOKENIZER_MODEL),
        "pre": metadata.get(keys.TOKENIZER_PRE),
        "vocabulary": tokens[1] if isinstance(tokens, tuple) else None,
        "bos_token_id": metadata.get(keys.TOKENIZER_BOS),
        "eos_token_id": metadata.get(keys.TOKENIZER_EOS),
        "mask_token_id": metadata.get(keys.TOKENIZER_MASK),
        "chat_template": bool(metadata.get(keys.CHAT_TEMPLATE)),
    }


def _modes(header: GgufHeader) -> dict[str, Any]:
    """Return which modes pytrimode can run on the file, and why not the others."""
    metadata = header.metadata
    architecture = metadata.get(keys.GENERAL_ARCHITECTURE)
    why = ""
    if architecture != keys.ARCHITECTURE:
        why = f"architecture {architecture}: the engine runs {keys.ARCHITECTURE}"
    else:
        try:
            check_model(header.path)
        except (ValueError, OSError) as error:
            why = str(error)
    if why:
        return {"available": [], "missing": dict.fromkeys(modes.MODES, why)}
    text = {key: str(value) for key, value in metadata.items()}
    missing = {}
    if keys.TOKENIZER_MASK not in metadata:
        missing = {mode: f"no mask token ({keys.TOKENIZER_MASK})" for mode in modes.MODES if mode != modes.AR}
    return {
        "available": [mode for mode in modes.MODES if mode not in missing],
        "missing": missing,
        "block_length": {mode: modes.default_block_length(mode, text) for mode in (modes.DIFFUSION, modes.SELF_SPEC)},
        "threshold": modes.default_threshold(text),
    }


def _drafter(model: Path) -> dict[str, Any] | None:
    """Return the adapter beside the model, None without one; `error` where it cannot be read."""
    path = lora_beside(model)
    if not path.is_file():
        return None
    try:
        header = read_gguf_header(path)
    except ValueError as error:
        return {"file": str(path), "error": str(error)}
    return {
        "file": str(path),
        "file_bytes": header.file_bytes,
        "rank": _rank(header),
        "alpha": header.metadata.get(keys.ADAPTER_LORA_ALPHA),
        "types": sorted({t.type for t in header.tensors}),
    }


def _is_mmproj(header: GgufHeader) -> bool:
    return header.metadata.get(keys.GENERAL_ARCHITECTURE) == vision_keys.ARCHITECTURE


def _vision(header: GgufHeader | None, model: Path) -> dict[str, Any] | None:
    """Return the vision tower that the file is or that lies beside it, None without one; `error` where it cannot be
    read.
    """
    path = model if header else mmproj_beside(model)
    if header is None:
        if not path.is_file():
            return None
        try:
            header = read_gguf_header(path)
        except ValueError as error:
            return {"file": str(path), "error": str(error)}
    matrices = Counter(t.type for t in header.tensors if len(t.shape) == 2)
    return {
        "file": str(path),
        "file_bytes": header.file_bytes,
        "projector": header.metadata.get(vision_keys.PROJECTOR_TYPE),
        "layers": header.metadata.get(vision_keys.BLOCK_COUNT),
        "hidden": header.metadata.get(vision_keys.EMBEDDING_LENGTH),
        "max_side": header.metadata.get(vision_keys.MAX_SIDE),
        "type": matrices.most_common(1)[0][0] if matrices else None,
    }


def _rank(header: GgufHeader) -> int | None:
    """Columns of the B matrices: ggml orders a shape from the row's length on."""
    ranks = {t.shape[0] for t in header.tensors if t.name.endswith(".lora_b")}
    return ranks.pop() if len(ranks) == 1 else None
