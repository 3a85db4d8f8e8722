"""Configuration, export in the layout of the real checkpoints, and loading."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from model import TriMode
from safetensors.torch import load_file, save_file
from tokenizer import BOS, EOS, MASK

MAX_POSITION = 4096
LORA_RANK, LORA_ALPHA = 64, 256
LORA_KEY = "base_model.model.encoder.layers.{}.self_attn.o_proj.lora_{}.weight"


def model_config(vocab_size: int) -> dict:
    """config.json of the model. original_max is small, so that short chats cross it."""
    return {
        "architectures": ["NemotronLabsDiffusionModel"], "model_type": "nemotron_labs_diffusion",
        "hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 768, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 64, "vocab_size": vocab_size, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0, "sliding_window": None,
        "tie_word_embeddings": False, "initializer_range": 0.02, "use_cache": True,
        "block_size": 32, "dlm_paradigm": "bidirectional", "mask_token_id": MASK,
        "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": None,
        "max_position_embeddings": MAX_POSITION, "torch_dtype": "bfloat16",
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 256,
            "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
        },
    }  # fmt: skip


def round_bf16(model: TriMode) -> None:
    """Round the weights to bfloat16 in place: what the checkpoint holds, computed with in float32."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.bfloat16().float())


def write_json(path: Path, value: dict) -> None:
    """Indented JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2) + "\n")


def export_model(model: TriMode, out: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors (bfloat16)."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", model.config)
    write_json(out / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": [EOS], "do_sample": False})
    tensors = {k: v.detach().bfloat16().contiguous() for k, v in model.state_dict().items() if "lora" not in k}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)


def export_lora(factors: list[tuple[torch.Tensor, torch.Tensor]], out: Path) -> None:
    """Write linear_spec_lora/: per layer A [r, heads * head_dim] and B [hidden, r], float32."""
    folder = out / "linear_spec_lora"
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": "trimode-tiny",
        "r": LORA_RANK,
        "lora_alpha": LORA_ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["o_proj"],
        "fan_in_fan_out": False,
        "use_rslora": False,
        "inference_mode": True,
    }
    write_json(folder / "adapter_config.json", config)
    tensors = {}
    for i, (a, b) in enumerate(factors):
        tensors[LORA_KEY.format(i, "A")] = a.detach().float().contiguous()
        tensors[LORA_KEY.format(i, "B")] = b.detach().float().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_model.safetensors").chmod(0o644)


def load_model(folder: Path) -> TriMode:
    """The network in float32 on the checkpoint's bfloat16 weights, without the drafter."""
    model = TriMode(json.loads((folder / "config.json").read_text()))
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=True)
    return model.eval()
