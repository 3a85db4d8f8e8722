"""What a model is called, where it comes from and under which licence: the `general.` keys."""

from __future__ import annotations

import re
from pathlib import Path

from pytrimode.convert.checkpoint.checkpoint import LORA_DIR, Checkpoint
from pytrimode.convert.checkpoint.json_file import JsonObject
from pytrimode.convert.checkpoint.model_card import REPO
from pytrimode.gguf import keys, vision_keys
from pytrimode.gguf.hub_layout import repo_of
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.types import QUANTIZATION_VERSION, OutputType

TAGS = ["text-generation", "diffusion", "self-speculation", "tri-mode"]
UNITS = (("T", 10**12), ("B", 10**9), ("M", 10**6))
HUB = "https://huggingface.co/"
_SIZED_NAME = re.compile(r"(?P<base>.+?)[-_]\d+(?:\.\d+)?[KMBT](?:[-_](?P<finetune>.+))?", re.IGNORECASE)


def add_general(metadata: Metadata, checkpoint: Checkpoint, output: OutputType, n_params: int) -> None:
    """Write the `general.` keys of a model, from the directory's name, config.json and the model card."""
    metadata.string(keys.GENERAL_ARCHITECTURE, keys.ARCHITECTURE)
    metadata.string(keys.GENERAL_TYPE, "model")
    metadata.string(keys.GENERAL_NAME, model_name(checkpoint.path, checkpoint.config))
    base, finetune = name_parts(model_name(checkpoint.path, checkpoint.config))
    metadata.string(keys.GENERAL_BASENAME, base)
    if finetune:
        metadata.string(keys.GENERAL_FINETUNE, finetune)
    metadata.string(keys.GENERAL_SIZE_LABEL, size_label(n_params))
    for field, key in (
        ("license", keys.GENERAL_LICENSE),
        ("license_name", keys.GENERAL_LICENSE_NAME),
        ("license_link", keys.GENERAL_LICENSE_LINK),
    ):
        value = checkpoint.card.text(field) or checkpoint.config.get(field)
        if isinstance(value, str) and value:
            metadata.string(key, value)
    source = source_model(checkpoint.path, checkpoint.config)
    if REPO.fullmatch(source):
        metadata.string(keys.GENERAL_ORGANIZATION, source.partition("/")[0])
        metadata.string(keys.GENERAL_SOURCE_URL, HUB + source)
    _add_base_models(metadata, checkpoint.card.base_models)
    metadata.strings(keys.GENERAL_TAGS, TAGS)
    if prompts := checkpoint.card.example_prompts:
        metadata.string(keys.EXAMPLE_PROMPTS, "\n".join(prompts))
    metadata.u32(keys.GENERAL_FILE_TYPE, output.file_type)
    metadata.u32(keys.GENERAL_QUANTIZATION_VERSION, QUANTIZATION_VERSION)
    metadata.string(keys.TRIMODE_SOURCE_MODEL, source)


def add_adapter_general(metadata: Metadata, checkpoint: Checkpoint, file_type: int) -> None:
    """Write the `general.` keys of the drafter LoRA."""
    metadata.string(keys.GENERAL_ARCHITECTURE, keys.ARCHITECTURE)
    metadata.string(keys.GENERAL_TYPE, "adapter")
    metadata.string(keys.GENERAL_NAME, f"{model_name(checkpoint.path, checkpoint.config)} drafter LoRA ({LORA_DIR})")
    metadata.u32(keys.GENERAL_FILE_TYPE, file_type)
    metadata.string(keys.TRIMODE_SOURCE_MODEL, source_model(checkpoint.path, checkpoint.config))


def add_mmproj_general(metadata: Metadata, checkpoint: Checkpoint, file_type: int) -> None:
    """Write the `general.` keys of the vision tower."""
    metadata.string(keys.GENERAL_ARCHITECTURE, vision_keys.ARCHITECTURE)
    metadata.string(keys.GENERAL_TYPE, vision_keys.TYPE)
    metadata.string(keys.GENERAL_NAME, f"{model_name(checkpoint.path, checkpoint.config)} vision tower")
    metadata.u32(keys.GENERAL_FILE_TYPE, file_type)
    metadata.u32(keys.GENERAL_QUANTIZATION_VERSION, QUANTIZATION_VERSION)
    metadata.string(keys.TRIMODE_SOURCE_MODEL, source_model(checkpoint.path, checkpoint.config))


def source_model(directory: Path, config: JsonObject) -> str:
    """Where the checkpoint is from: the hub name that its place in the hub's cache or config.json has, else the
    directory's name.
    """
    if repo := repo_of(directory):
        return repo
    recorded = config.get("_name_or_path")
    if isinstance(recorded, str) and REPO.fullmatch(recorded):
        return recorded
    return directory.resolve().name


def model_name(directory: Path, config: JsonObject) -> str:
    """Return the model's name, without its owner."""
    return source_model(directory, config).rpartition("/")[2]


def name_parts(name: str) -> tuple[str, str]:
    """Return what stands before and behind the size in a model's name: "Nemotron-Labs-Diffusion-8B-Base" gives
    ("Nemotron-Labs-Diffusion", "Base"); a name without a size is all base.
    """
    match = _SIZED_NAME.fullmatch(name)
    return (match["base"], match["finetune"] or "") if match else (name, "")


def size_label(n_params: int) -> str:
    """5300000 -> "5.3M", 13500000000 -> "14B": two digits at least, as in llama.cpp's file names."""
    unit, size = next(((unit, size) for unit, size in UNITS if n_params >= size), ("K", 10**3))
    value = n_params / size
    return f"{value:.0f}{unit}" if value >= 9.95 else f"{value:.1f}{unit}"


def _add_base_models(metadata: Metadata, repos: list[str]) -> None:
    """Write which models on the hub this one was made of."""
    if repos:
        metadata.u32(keys.GENERAL_BASE_MODEL_COUNT, len(repos))
    for i, repo in enumerate(repos):
        owner, _, name = repo.partition("/")
        metadata.string(keys.GENERAL_BASE_MODEL_NAME.format(id=i), name)
        metadata.string(keys.GENERAL_BASE_MODEL_ORGANIZATION.format(id=i), owner)
        metadata.string(keys.GENERAL_BASE_MODEL_REPO_URL.format(id=i), HUB + repo)
