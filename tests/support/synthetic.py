"""Synthetic checkpoints in the layout of the real ones: random weights, everything else complete.

For tests, benchmarks and tools. Needs numpy and safetensors, not torch. Weights are scaled so that logits are about
+-5.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
N_SPECIAL = 128
BOS, EOS, MASK, TOOL = 1, 11, 100, 20
NAMED = {0: "<unk>", 1: "<s>", 2: "</s>", 10: "<|im_start|>", 11: "<|im_end|>", 20: "<tool>", 100: "<mask>"}
TEMPLATE = (
    "{{- bos_token -}}{%- for m in messages -%}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
)
CORPUS = """def add(a, b): return a + b
The quick brown fox jumps over the lazy dog, and the other foxes watch the dog sleep.
Numbers such as 12345 are split into digits; words are not. Please convert the model and write the file.
for i in range(10): print(i)  class Model: def forward(self, tokens): return self.head(tokens)
Ça va très bien, merci. Größe und Überfluss. 你好 世界。こんにちは
"""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
# Elements drawn at random per tensor; a bigger tensor repeats them, so that 14B shapes take seconds.
MAX_RANDOM = 1 << 22


def make_checkpoint(
    directory: Path,
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 32,
    ffn: int = 128,
    vocab: int = 512,
    rope_theta: float = 1e6,
    factor: float = 16.0,
    original_max: int = 64,
    beta: float = 0.1,
    max_position: int = 1024,
    shards: int = 1,
    seed: int = 0,
    dtype: str = "bf16",
    zeros: bool = False,
    lora_rank: int | None = None,
    tokenizer_from: Path | None = None,
) -> Path:
    """Write a checkpoint into `directory` and return it.

    dtype: "bf16", "f16" or "f32". zeros: the weights are 0 and take no time and no disk, for what depends on shapes
    alone (of BF16, in one file). lora_rank: write `linear_spec_lora/` too (alpha = 4 * rank, as the real one).
    tokenizer_from: a checkpoint whose tokenizer files are copied; by default a small one is made up.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    shapes = dict(_shapes(hidden, layers, heads * head_dim, kv_heads * head_dim, ffn, vocab))
    if zeros:
        _write_zeros(directory / "model.safetensors", shapes)
    else:
        _write_weights(directory, shapes, shards, dtype, rng)
    config = _config(hidden, layers, heads, kv_heads, head_dim, ffn, vocab, max_position)
    config["rope_parameters"] = _rope(rope_theta, factor, original_max, beta)
    _write_json(directory / "config.json", config)
    _write_json(directory / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": EOS})
    if lora_rank:
        _write_lora(directory / "linear_spec_lora", lora_rank, hidden, layers, heads * head_dim, rng)
    if tokenizer_from:
        for name in TOKENIZER_FILES:
            shutil.copy(tokenizer_from / name, directory / name)
    else:
        _write_tokenizer(directory, vocab)
    return directory


def make_agreeing_checkpoint(directory: Path, seed: int = 7) -> Path:
    """A very small checkpoint of random weights whose drafts agree with its target about every second time.

    All tokens, masks too, look much alike to it, so that a draft row, which sees masks, says much the same as the
    target; and its logits are steep enough for a few tokens to be likely.
    """
    make_checkpoint(
        directory, hidden=64, layers=1, heads=2, kv_heads=1, ffn=64, vocab=400, dtype="f32", seed=seed
    )  # fmt: skip
    common = np.random.default_rng(1).standard_normal(64, dtype=np.float32)
    changes = {"encoder.embed_tokens.weight": lambda w: 0.15 * w + common, "diffusion_head.weight": lambda w: 2.5 * w}
    edit_weights(directory, lambda name, weight: changes.get(name, lambda w: w)(weight))
    return directory


def load_weights(directory: Path) -> dict[str, NDArray[np.float32]]:
    """All weights of a checkpoint (or adapter) directory as F32, by name, in the order of the names."""
    weights = {
        name: _decode(entry["data"], entry["dtype"]).reshape(entry["shape"])
        for path in sorted(directory.glob("*.safetensors"))
        for name, entry in safetensors.deserialize(path.read_bytes())
    }
    return dict(sorted(weights.items()))  # safetensors gives them in another order each time


def write_safetensors(path: Path, tensors: dict[str, NDArray[Any]]) -> None:
    """Write tensors. uint16 arrays are BF16, float16 is F16, float32 is F32."""
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype="bfloat16" if array.dtype == np.uint16 else array.dtype.name,
            shape=array.shape,
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
        for name, array in arrays.items()
    }
    safetensors.serialize_file(specs, path, metadata={"format": "pt"})


def edit_weights(directory: Path, change: Callable[[str, NDArray[np.float32]], NDArray[np.float32]]) -> None:
    """Replace every weight of a single-file checkpoint by change(name, weight); stored as F32."""
    weights = {name: change(name, weight).astype(np.float32) for name, weight in load_weights(directory).items()}
    write_safetensors(directory / "model.safetensors", weights)


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; a value of ... removes the key. `a__b` is key b within a."""
    data = json.loads(path.read_text())
    for name, value in changes.items():
        *outer, key = name.split("__")
        target = data
        for part in outer:
            target = target[part]
        if value is ...:
            del target[key]
        else:
            target[key] = value
    _write_json(path, data)


def to_bf16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """F32 rounded to BF16, as its bits."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _shapes(
    hidden: int, layers: int, q_rows: int, kv_rows: int, ffn: int, vocab: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "diffusion_head.weight", (vocab, hidden)
    yield "encoder.embed_tokens.weight", (vocab, hidden)
    for i in range(layers):
        layer = f"encoder.layers.{i}"
        yield f"{layer}.input_layernorm.weight", (hidden,)
        yield f"{layer}.mlp.down_proj.weight", (hidden, ffn)
        yield f"{layer}.mlp.gate_proj.weight", (ffn, hidden)
        yield f"{layer}.mlp.up_proj.weight", (ffn, hidden)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)
        yield f"{layer}.self_attn.k_proj.weight", (kv_rows, hidden)
        yield f"{layer}.self_attn.o_proj.weight", (hidden, q_rows)
        yield f"{layer}.self_attn.q_proj.weight", (q_rows, hidden)
        yield f"{layer}.self_attn.v_proj.weight", (kv_rows, hidden)
    yield "encoder.norm.weight", (hidden,)


def _random(name: str, shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> NDArray[Any]:
    size = int(np.prod(shape))
    values = rng.standard_normal(min(size, MAX_RANDOM), dtype=np.float32)
    if len(shape) == 1:
        values = 1 + 0.1 * values
    elif name == "diffusion_head.weight":
        values *= 1.6 / shape[-1] ** 0.5  # logits: standard deviation 1.6
    elif name != "encoder.embed_tokens.weight":
        values *= 1 / shape[-1] ** 0.5
    stored = to_bf16(values) if dtype == "bf16" else values.astype({"f16": np.float16, "f32": np.float32}[dtype])
    return np.resize(stored, size).reshape(shape)


def _write_weights(
    directory: Path, shapes: dict[str, tuple[int, ...]], shards: int, dtype: str, rng: np.random.Generator
) -> None:
    def write(file: str, part: list[str]) -> None:
        write_safetensors(directory / file, {name: _random(name, shapes[name], dtype, rng) for name in part})

    names = list(shapes)
    if shards == 1:
        write("model.safetensors", names)
        return
    weight_map = {}
    for shard in range(shards):
        part = names[len(names) * shard // shards : len(names) * (shard + 1) // shards]
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        write(file, part)
        weight_map |= dict.fromkeys(part, file)
    total = sum(int(np.prod(shape)) for shape in shapes.values()) * (4 if dtype == "f32" else 2)
    _write_json(
        directory / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map}
    )


def _write_zeros(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """BF16 weights as a hole behind the header of a safetensors file."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (begin, end)}
    data = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(data).to_bytes(8, "little") + data)
        file.truncate(8 + len(data) + end)


def _write_lora(directory: Path, rank: int, hidden: int, layers: int, q_rows: int, rng: np.random.Generator) -> None:
    directory.mkdir(exist_ok=True)
    tensors: dict[str, NDArray[Any]] = {}
    for i in range(layers):
        name = f"base_model.model.encoder.layers.{i}.self_attn.o_proj"
        tensors[f"{name}.lora_A.weight"] = rng.standard_normal((rank, q_rows), dtype=np.float32) / q_rows**0.5
        tensors[f"{name}.lora_B.weight"] = rng.standard_normal((hidden, rank), dtype=np.float32) * 0.1 / rank**0.5
    write_safetensors(directory / "adapter_model.safetensors", tensors)
    _write_json(
        directory / "adapter_config.json",
        {"peft_type": "LORA", "r": rank, "lora_alpha": 4 * rank, "lora_dropout": 0.0, "bias": "none",
         "target_modules": ["o_proj"], "use_rslora": False, "fan_in_fan_out": False},
    )  # fmt: skip


def _config(
    hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int, ffn: int, vocab: int, max_position: int
) -> dict[str, Any]:
    return {
        "architectures": ["NemotronLabsDiffusionModel"],
        "model_type": "nemotron_labs_diffusion",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": ffn,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocab,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "block_size": 32,
        "dlm_paradigm": "bidirectional",
        "mask_token_id": MASK,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": None,
        "max_position_embeddings": max_position,
        "torch_dtype": "bfloat16",
    }


def _rope(theta: float, factor: float, original_max: int, beta: float) -> dict[str, Any]:
    return {
        "rope_type": "yarn",
        "rope_theta": theta,
        "factor": factor,
        "original_max_position_embeddings": original_max,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": beta,
    }


def _write_tokenizer(directory: Path, vocab_size: int) -> None:
    """A Tekken-style tokenizer: specials, the 256 bytes, and merges learnt from CORPUS, at most `vocab_size` tokens."""
    specials = [NAMED.get(i, f"<SPECIAL_{i}>") for i in range(N_SPECIAL)]
    alphabet = byte_alphabet()
    merges = _learn_merges(alphabet, vocab_size - N_SPECIAL - len(alphabet))
    tokens = [*specials, *alphabet, *("".join(merge) for merge in merges)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"id": i, "content": text, **flags, "special": i != TOOL} for i, text in enumerate(specials)]
    template = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    split = {"type": "Split", "pattern": {"Regex": TEKKEN_PATTERN}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    _write_json(
        directory / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": template,
                "pair": [*template, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}},
            },
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                "vocab": {text: i for i, text in enumerate(tokens)}, "merges": [list(merge) for merge in merges],
            },
        },
    )  # fmt: skip
    names = {"bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "mask_token": "<mask>"}
    _write_json(directory / "special_tokens_map.json", names)
    _write_json(
        directory / "tokenizer_config.json",
        {"add_bos_token": True, "tokenizer_class": "PreTrainedTokenizerFast", **names},
    )
    (directory / "chat_template.jinja").write_text(TEMPLATE)


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in byte-level BPE, by byte. Source: GPT-2's encoder.py."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _learn_merges(alphabet: list[str], wanted: int) -> list[tuple[str, str]]:
    """Plain BPE on the words of CORPUS; fewer merges than wanted when no pair is left."""
    words = [[alphabet[byte] for byte in word.encode()] for word in CORPUS.replace(" ", "\0 ").split("\0")]
    merges: list[tuple[str, str]] = []
    while len(merges) < min(wanted, 300):
        pairs: dict[tuple[str, str], int] = {}
        for word in words:
            for pair in pairwise(word):
                # Tekken splits digits and newlines off: no merge may cross them.
                if not any(char.isdigit() or char == alphabet[10] for char in "".join(pair)):
                    pairs[pair] = pairs.get(pair, 0) + 1
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = [_merged(word, best) for word in words]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in word:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def _decode(data: bytes, dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, {"F16": "<f2", "F32": "<f4"}[dtype]).astype(np.float32)


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1))
