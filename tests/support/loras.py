"""LoRAs as PEFT saves them, of random matrices, and the weights that they amount to."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .synthetic import load_weights, write_safetensors

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_peft(
    directory: Path,
    checkpoint: Path,
    modules: Sequence[str] = MODULES,
    *,
    rank: int = 4,
    alpha: float = 8.0,
    ranks: Mapping[str, int] | None = None,
    alphas: Mapping[str, float] | None = None,
    rslora: bool = False,
    layers: Sequence[int] | None = None,
    strength: float = 0.3,
    prefix: str = "base_model.model.model.",
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write an adapter of a checkpoint. `ranks`, `alphas`: rank_pattern and alpha_pattern. `strength`: of the delta
    against the weight."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, weight in load_weights(checkpoint).items():
        match = re.fullmatch(r"encoder\.(layers\.(\d+)\.\w+\.(\w+))\.weight", name)
        if not match or match[3] not in modules or (layers is not None and int(match[2]) not in layers):
            continue
        r, scale = _rank_and_scale(match[1], rank, alpha, ranks or {}, alphas or {}, rslora)
        n_out, n_in = weight.shape
        size = strength * float(weight.std()) / (scale * math.sqrt(r))
        tensors[f"{prefix}{match[1]}.lora_A.weight"] = rng.standard_normal((r, n_in), dtype=np.float32)
        tensors[f"{prefix}{match[1]}.lora_B.weight"] = size * rng.standard_normal((n_out, r), dtype=np.float32)
    write_safetensors(directory / "adapter_model.safetensors", tensors)
    settings = {
        "peft_type": "LORA", "base_model_name_or_path": str(checkpoint), "r": rank, "lora_alpha": alpha,
        "target_modules": list(modules), "bias": "none", "use_rslora": rslora, "use_dora": False,
        "fan_in_fan_out": False, "rank_pattern": dict(ranks or {}), "alpha_pattern": dict(alphas or {}),
        "modules_to_save": None, "lora_dropout": 0.0, "task_type": "CAUSAL_LM", "inference_mode": True, **config,
    }  # fmt: skip
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    return directory


def _rank_and_scale(
    module: str, rank: int, alpha: float, ranks: Mapping[str, int], alphas: Mapping[str, float], rslora: bool
) -> tuple[int, float]:
    r = next((n for pattern, n in ranks.items() if re.fullmatch(rf"(.*\.)?({pattern})", module)), rank)
    a = next((x for pattern, x in alphas.items() if re.fullmatch(rf"(.*\.)?({pattern})", module)), alpha)
    return r, a / (math.sqrt(r) if rslora else r)


def merge(reference: Any, adapter: Path, scale: float = 1.0) -> None:
    """Add what an adapter amounts to to the weights of transformers' model."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_weights(adapter)
    for name, a in tensors.items():
        if ".lora_A." not in name:
            continue
        module = re.sub(r".*?(layers\..*)\.lora_A\.weight", r"\1", name)
        _, factor = _rank_and_scale(
            module, config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"],
            config["use_rslora"],
        )  # fmt: skip
        b = tensors[name.replace("lora_A", "lora_B")]
        with torch.no_grad():
            reference.model.get_submodule(module).weight += torch.from_numpy(scale * factor * (b @ a))
