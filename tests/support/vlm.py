"""A small random vision and language model in the layout of the real one, and the same in transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .synthetic import edit_json, load_weights, make_checkpoint, to_bf16, write_safetensors

TOWER, PROJECTOR = "encoder.vision_tower.", "encoder.multi_modal_projector."
START, PAD, BREAK, END = 18, 19, 20, 21
IMAGE_TOKENS = {START: "<|image_start|>", PAD: "<|image_pad|>", BREAK: "<|image_break|>", END: "<|image_end|>"}
TEMPLATE = (
    "{{- bos_token -}}{%- for m in messages -%}<|im_start|>{{ m['role'] }}\n"
    "{%- if m['content'] is string -%}{{ m['content'] }}{%- else -%}{%- for part in m['content'] -%}"
    "{%- if part['type'] == 'text' -%}{{ part['text'] }}{%- else -%}<|image_start|>{%- endif -%}"
    "{%- endfor -%}{%- endif -%}<|im_end|>\n"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
)
TEXT_KEYS = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads",
             "head_dim", "vocab_size", "rms_norm_eps", "hidden_act", "max_position_embeddings", "rope_parameters",
             "sliding_window", "mask_token_id")  # fmt: skip


def make_vlm(
    directory: Path,
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    ffn: int = 128,
    act: str = "silu",
    bias: bool = False,
    dtype: str = "f32",
    nested: bool = False,
    seed: int = 0,
    **text: Any,
) -> Path:
    """Write a checkpoint; `text`: see `make_checkpoint`. nested: the text model's settings stand apart."""
    make_checkpoint(directory, dtype=dtype, seed=seed, **text)
    config = json.loads((directory / "config.json").read_text())
    tensors: dict[str, NDArray[Any]] = dict(load_weights(directory))
    shapes = vision_shapes(hidden, layers, ffn, config["hidden_size"], bias=bias)
    tensors |= random_vision(shapes, np.random.default_rng(seed + 1))
    stored = {name: to_bf16(values) if dtype == "bf16" else values for name, values in tensors.items()}
    write_safetensors(directory / "model.safetensors", stored)
    config |= {
        "architectures": ["NemotronLabsDiffusionVLMModel"], "model_type": "nemotron_labs_diffusion_vlm",
        "spatial_merge_size": 2, "vision_feature_layer": -1, "projector_hidden_act": "gelu",
        "multimodal_projector_bias": bias,
        "vision_config": {
            "model_type": "pixtral", "hidden_size": hidden, "num_attention_heads": heads, "head_dim": hidden // heads,
            "num_hidden_layers": layers, "intermediate_size": ffn, "patch_size": 14, "image_size": 1540,
            "num_channels": 3, "hidden_act": act,
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        },
    }  # fmt: skip
    if nested:
        apart = {key: config.pop(key) for key in TEXT_KEYS}
        config["text_config"] = {**apart, "model_type": "ministral3", "eos_token_id": None}
    (directory / "config.json").write_text(json.dumps(config))
    name_image_tokens(directory)
    return directory


def name_image_tokens(directory: Path) -> None:
    """Give the tokens of pictures their names, and the chat template a place for them."""
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocab = {IMAGE_TOKENS.get(token, text): token for text, token in tokenizer["model"]["vocab"].items()}
    added = [
        token | ({"content": IMAGE_TOKENS[token["id"]], "special": True} if token["id"] in IMAGE_TOKENS else {})
        for token in tokenizer["added_tokens"]
    ]
    edit_json(path, model__vocab=vocab, added_tokens=added)
    (directory / "chat_template.jinja").write_text(TEMPLATE)


def vision_shapes(
    hidden: int, layers: int, ffn: int, text_hidden: int, *, bias: bool = False
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the vision part."""
    yield f"{TOWER}patch_conv.weight", (hidden, 3, 14, 14)
    yield f"{TOWER}ln_pre.weight", (hidden,)
    for i in range(layers):
        layer = f"{TOWER}transformer.layers.{i}"
        yield f"{layer}.attention_norm.weight", (hidden,)
        for x in "qkvo":
            yield f"{layer}.attention.{x}_proj.weight", (hidden, hidden)
        yield f"{layer}.ffn_norm.weight", (hidden,)
        yield f"{layer}.feed_forward.gate_proj.weight", (ffn, hidden)
        yield f"{layer}.feed_forward.up_proj.weight", (ffn, hidden)
        yield f"{layer}.feed_forward.down_proj.weight", (hidden, ffn)
    yield f"{PROJECTOR}norm.weight", (hidden,)
    yield f"{PROJECTOR}patch_merger.merging_layer.weight", (hidden, 4 * hidden)
    for number, n_in in ((1, hidden), (2, text_hidden)):
        yield f"{PROJECTOR}linear_{number}.weight", (text_hidden, n_in)
        if bias:
            yield f"{PROJECTOR}linear_{number}.bias", (text_hidden,)


def random_vision(
    shapes: Iterator[tuple[str, tuple[int, ...]]], rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Norms near 1, matrices of gain about 1; q and k stronger, so that attention is far from uniform."""
    made = {}
    for name, shape in shapes:
        if len(shape) == 1:
            centre = 0.0 if name.endswith("bias") else 1.0
            made[name] = (centre + 0.1 * rng.standard_normal(shape)).astype(np.float32)
            continue
        gain = 2.0 if ".q_proj" in name or ".k_proj" in name else 1.0
        scale = gain / np.sqrt(np.prod(shape[1:]))
        made[name] = (scale * rng.standard_normal(shape, dtype=np.float32)).astype(np.float32)
    return made


def mistral3(directory: Path) -> Any:
    """The checkpoint as transformers' Mistral3ForConditionalGeneration, F32, eager attention."""
    import torch
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    config = json.loads((directory / "config.json").read_text())
    config |= config.get("text_config") or {}
    text = {key: config[key] for key in TEXT_KEYS if key != "mask_token_id"}
    text |= {"model_type": "ministral3", "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 11}
    vision = config["vision_config"] | {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "axial"}}
    made = Mistral3Config(
        text_config=text, vision_config=vision, image_token_index=PAD, spatial_merge_size=2, vision_feature_layer=-1,
        projector_hidden_act="gelu", multimodal_projector_bias=config["multimodal_projector_bias"],
        tie_word_embeddings=False,
    )  # fmt: skip
    made._attn_implementation = "eager"
    model = Mistral3ForConditionalGeneration(made).float().eval()
    state = {}
    for name, values in load_weights(directory).items():
        if name == "diffusion_head.weight":
            target = "lm_head.weight"
        elif name.startswith((TOWER, PROJECTOR)):
            target = "model." + name.removeprefix("encoder.")
        else:
            target = "model.language_model." + name.removeprefix("encoder.")
        state[target] = torch.from_numpy(np.ascontiguousarray(values))
    model.load_state_dict(state, strict=True)
    return model


def reference_rows(model: Any, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Projected embeddings [cells, hidden] of one picture's pixels [3, h, w]."""
    import torch

    size = torch.tensor([pixels.shape[1:]])
    with torch.no_grad():  # not get_image_features: transformers 5.24's cannot split a picture of one cell
        hidden = model.model.vision_tower(torch.from_numpy(pixels)[None], image_sizes=size).last_hidden_state
        return model.model.multi_modal_projector(hidden.squeeze(0), size).numpy()


def picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 [height, width, 3]: slopes, hard edges and noise."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 / width, y * 255 / height, (x // 7 + y // 5) % 2 * 255], -1)
    noise = np.random.default_rng(seed).integers(-20, 20, (height, width, 3))
    return (base + noise).clip(0, 255).astype(np.uint8)


def image_tokens(columns: int, rows: int) -> list[int]:
    """The tokens of a picture, a pad for each cell."""
    tokens = [START]
    for row in range(rows):
        tokens += [PAD] * columns + [END if row == rows - 1 else BREAK]
    return tokens
