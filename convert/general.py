"""What a model is called, where it comes from and under which licence: the `general.` keys."""

from __future__ import annotations

import re

from pytrimode.convert.checkpoint.checkpoint import LORA_DIR, Checkpoint
from pytrimode.gguf import keys, vision_keys
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.types import QUANTIZATION_VERSION, OutputType

TAGS = ["text-generation", "diffusion", "self-speculation", "tri-mode"]
MODEL_CARD = "README.md"
UNITS = (("T", 10**12), ("B", 10**9), ("M", 10**6))
HUB = "https://huggingface.co/"


def add_general(metadata: Metadata, checkpoint: Checkpoint, output: OutputType, n_params: int) -> None:
    """Write the `general.` keys of a model, from the directory's name, config.json and the model card."""
    card = model_card_fields(checkpoint.read_optional_text(MODEL_CARD) or "")
    metadata.string(keys.GENERAL_ARCHITECTURE, keys.ARCHITECTURE)
    metadata.string(keys.GENERAL_TYPE, "model")
    metadata.string(keys.GENERAL_NAME, model_name(checkpoint))
    metadata.string(keys.GENERAL_SIZE_LABEL, size_label(n_params))
    for field, key in (
        ("license", keys.GENERAL_LICENSE),
        ("license_name", keys.GENERAL_LICENSE_NAME),
        ("license_link", keys.GENERAL_LICENSE_LINK),
    ):
        value = card.get(field) or checkpoint.config.get(field)
        if isinstance(value, str) and value:
            metadata.string(key, value)
    source = source_model(checkpoint)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        metadata.string(keys.GENERAL_SOURCE_URL, HUB + source)
    metadata.strings(keys.GENERAL_TAGS, TAGS)
    metadata.u32(keys.GENERAL_FILE_TYPE, output.file_type)
    metadata.u32(keys.GENERAL_QUANTIZATION_VERSION, QUANTIZATION_VERSION)
    metadata.string(keys.TRIMODE_SOURCE_MODEL, source)


def add_adapter_general(metadata: Metadata, checkpoint: Checkpoint, file_type: int) -> None:
    """Write the `general.` keys of the drafter LoRA."""
    metadata.string(keys.GENERAL_ARCHITECTURE, keys.ARCHITECTURE)
    metadata.string(keys.GENERAL_TYPE, "adapter")
    metadata.string(keys.GENERAL_NAME, f"{model_name(checkpoint)} drafter LoRA ({LORA_DIR})")
    metadata.u32(keys.GENERAL_FILE_TYPE, file_type)
    metadata.string(keys.TRIMODE_SOURCE_MODEL, source_model(checkpoint))


def add_mmproj_general(metadata: Metadata, checkpoint: Checkpoint, file_type: int) -> None:
    """Write the `general.` keys of the vision tower."""
    metadata.string(keys.GENERAL_ARCHITECTURE, vision_keys.ARCHITECTURE)
    metadata.string(keys.GENERAL_TYPE, vision_keys.TYPE)
    metadata.string(keys.GENERAL_NAME, f"{model_name(checkpoint)} vision tower")
    metadata.u32(keys.GENERAL_FILE_TYPE, file_type)
    metadata.u32(keys.GENERAL_QUANTIZATION_VERSION, QUANTIZATION_VERSION)
    metadata.string(keys.TRIMODE_SOURCE_MODEL, source_model(checkpoint))


def source_model(checkpoint: Checkpoint) -> str:
    """Where the checkpoint is from: the hub name that config.json may record, else the directory's name."""
    recorded = checkpoint.config.get("_name_or_path")
    if isinstance(recorded, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", recorded):
        return recorded
    return checkpoint.path.resolve().name


def model_name(checkpoint: Checkpoint) -> str:
    """Return the model's name, without its owner."""
    return source_model(checkpoint).rpartition("/")[2]


def size_label(n_params: int) -> str:
    """5300000 -> "5.3M", 13500000000 -> "14B": two digits at least, as in llama.cpp's file names."""
    unit, size = next(((unit, size) for unit, size in UNITS if n_params >= size), ("K", 10**3))
    value = n_params / size
    return f"{value:.0f}{unit}" if value >= 9.95 else f"{value:.1f}{unit}"


def model_card_fields(text: str) -> dict[str, str]:
    """Return the plain `key: value` lines of a model card's front matter (YAML between two lines of dashes)."""
    match = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    lines = match.group(1).splitlines() if match else []
    pairs = (re.fullmatch(r"(\w+):\s+[\"']?([^\"'\[\]{}>|]+?)[\"']?\s*", line) for line in lines)
    return {pair.group(1): pair.group(2) for pair in pairs if pair}
