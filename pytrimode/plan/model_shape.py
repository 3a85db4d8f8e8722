"""The shape of a model to plan for: built in, or from a GGUF file or a checkpoint directory, weights unread."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytrimode.convert.checkpoint.checkpoint import LORA_DIR, VLM_MODEL_TYPE, read_config
from pytrimode.convert.checkpoint.hparams import Hyperparameters, Rope
from pytrimode.convert.checkpoint.json_file import JsonObject
from pytrimode.convert.general import model_name
from pytrimode.convert.lora import ADAPTER_CONFIG
from pytrimode.convert.vision.config import VisionConfig
from pytrimode.files.model_file import check_model_file
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import lora_beside, mmproj_beside
from pytrimode.gguf.header import GgufHeader, TensorInfo
from pytrimode.gguf.hub_layout import snapshot_of
from pytrimode.gguf.keys import DEFAULT_BLOCK_LENGTH
from pytrimode.gguf.preflight import CheckedModel, check_adapter, check_model
from pytrimode.gguf.vision_keys import IMAGE_TOKENS

FAMILY = "Nemotron-Labs-Diffusion"
FAMILY_LORA_RANK = 128


@dataclass(frozen=True)
class ModelShape:
    """What a plan needs to know of a model.

    Attributes:
        name: for people.
        hparams: shapes of all weights follow from these.
        lora_rank: of the drafter LoRA, 0 without.
        gguf: the file, None for a checkpoint and a built-in shape.
        stored: the tensors of that file.
        lora_gguf: the drafter LoRA beside it.
        mmproj_gguf: the vision tower beside it.
        vision: the vision tower of a checkpoint, None without.
    """

    name: str
    hparams: Hyperparameters
    lora_rank: int
    gguf: Path | None = None
    stored: tuple[TensorInfo, ...] = ()
    lora_gguf: Path | None = None
    mmproj_gguf: Path | None = None
    vision: VisionConfig | None = None


def _family(size: str, hidden: int, layers: int, ffn: int, rope_theta: float) -> ModelShape:
    rope = Rope(
        theta=rope_theta, factor=16.0, original_context=16384, beta_fast=32.0, beta_slow=1.0, log_multiplier=1.0,
        query_scale_beta=0.1,
    )  # fmt: skip
    hparams = Hyperparameters(
        n_layers=layers, hidden=hidden, ffn=ffn, n_heads=32, n_kv_heads=8, head_dim=128, vocab_size=131072,
        context=262144, rms_epsilon=1e-5, rope=rope, block_length=DEFAULT_BLOCK_LENGTH,
    )  # fmt: skip
    return ModelShape(f"{FAMILY}-{size}", hparams, FAMILY_LORA_RANK)


BUILT_IN = {
    "3B": _family("3B", 3072, 26, 9216, 1e6),
    "8B": _family("8B", 4096, 34, 14336, 1e6),
    "14B": _family("14B", 5120, 40, 16384, 1e9),
}
"""The instruct checkpoints, from their config.json."""


def built_in(model: str | Path) -> ModelShape | None:
    """Return the shape of "3B", or of the name of its repository; None for a path and for other names."""
    match = re.fullmatch(rf"(?:nvidia/)?(?:{FAMILY}-)?(\d+B)", str(model), re.IGNORECASE)
    return BUILT_IN.get(match.group(1).upper()) if match and not Path(model).exists() else None


def model_shape(model: str | Path) -> ModelShape:
    """Return the shape of "3B", "8B", "14B" (or their repository's name), of a GGUF file or of a checkpoint directory.

    A checkpoint directory needs its config.json only. Raises FileNotFoundError when there is nothing of the name,
    ValueError for what is no tri-mode model.
    """
    if shape := built_in(model):
        return shape
    path = Path(model).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"{model}: no such file; give {', '.join(BUILT_IN)}, a GGUF file or a checkpoint directory"
        )
    try:
        return _of_checkpoint(path) if path.is_dir() else _of_gguf(check_model_file(path))
    except ConversionError as error:
        raise ValueError(str(error)) from None


def _of_checkpoint(path: Path) -> ModelShape:
    path = snapshot_of(path)
    config = read_config(path)
    hparams = Hyperparameters.from_config(config)
    adapter = path / LORA_DIR / ADAPTER_CONFIG
    rank = JsonObject.read(adapter).integer("r") if adapter.is_file() else 0
    has_vision = config["model_type"] == VLM_MODEL_TYPE
    # Which ids the tokens of images have makes no difference to the memory.
    ids = {name: number for number, name in enumerate(IMAGE_TOKENS)}
    vision = VisionConfig.from_config(config, hparams, ids) if has_vision else None
    return ModelShape(model_name(path, config), hparams, rank, vision=vision)


def _of_gguf(path: Path) -> ModelShape:
    checked = check_model(path)
    header = checked.headers[0]
    lora, tower = lora_beside(path), mmproj_beside(path)
    return ModelShape(
        name=str(header.metadata.get(keys.GENERAL_NAME) or path.name),
        hparams=_hparams(header),
        lora_rank=_lora_rank(lora, checked) if lora.is_file() else 0,
        gguf=path,
        stored=tuple(tensor for part in checked.headers for tensor in part.tensors),
        lora_gguf=lora if lora.is_file() else None,
        mmproj_gguf=tower if tower.is_file() else None,
    )


def _hparams(header: GgufHeader) -> Hyperparameters:
    def value(key: str, default: Any = None) -> Any:
        found = header.metadata.get(key, default)
        if not isinstance(found, int | float) or isinstance(found, bool):
            raise ValueError(f"{header.path}: {key}: expected a number, found {found!r}")
        return found

    embedding = next((t for t in header.tensors if t.name == "token_embd.weight" and len(t.shape) == 2), None)
    if embedding is None:
        raise ValueError(f"{header.path}: tensor token_embd.weight is missing")
    n_heads, hidden = int(value(keys.HEAD_COUNT)), int(value(keys.EMBEDDING_LENGTH))
    context = int(value(keys.CONTEXT_LENGTH))
    rope = Rope(
        theta=value(keys.ROPE_FREQ_BASE, 10000.0),
        factor=value(keys.ROPE_SCALING_FACTOR, 1.0),
        original_context=int(value(keys.ROPE_ORIGINAL_CONTEXT, context)),
        beta_fast=value(keys.YARN_BETA_FAST, 32.0),
        beta_slow=value(keys.YARN_BETA_SLOW, 1.0),
        log_multiplier=value(keys.YARN_LOG_MULTIPLIER, 0.0),
        query_scale_beta=value(keys.TEMPERATURE_SCALE, 0.0),
    )
    return Hyperparameters(
        n_layers=int(value(keys.BLOCK_COUNT)),
        hidden=hidden,
        ffn=int(value(keys.FEED_FORWARD_LENGTH)),
        n_heads=n_heads,
        n_kv_heads=int(value(keys.HEAD_COUNT_KV, n_heads)),
        head_dim=int(value(keys.KEY_LENGTH, hidden // max(n_heads, 1))),
        vocab_size=embedding.shape[1],
        context=context,
        rms_epsilon=value(keys.RMS_EPSILON),
        rope=rope,
        block_length=int(value(keys.TRIMODE_BLOCK_LENGTH, DEFAULT_BLOCK_LENGTH)),
    )


def _lora_rank(path: Path, model: CheckedModel) -> int:
    """Return the rank of an adapter file."""
    tensors = check_adapter(path, model.shape).tensors
    return next(tensor.shape[0] for tensor in tensors if tensor.name.endswith(".lora_b"))
