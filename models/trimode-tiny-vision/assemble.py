#!/usr/bin/env python3
"""Write the whole checkpoint: trimode-tiny's text model with the changes and the vision tower of this folder.

    python models/trimode-tiny-vision/assemble.py trimode-tiny-vision
    trimode-convert trimode-tiny-vision trimode-tiny-vision.gguf --q8_0

Needs numpy alone. Every machine writes the same bytes: sums are in float64 before they are rounded to bfloat16.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
TEXT_MODEL = HERE.parent / "trimode-tiny"
WEIGHTS = "model.safetensors"
CHANGES = "vision.safetensors"
IMAGE_TOKENS = {18: "<|image_start|>", 19: "<|image_pad|>", 20: "<|image_break|>", 21: "<|image_end|>"}
OF_TEXT_MODEL = ("generation_config.json", "special_tokens_map.json")
OWN = ("chat_template.jinja", "README.md")


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a safetensors file of bfloat16, as uint16, and its metadata."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header, tensors = json.loads(data[8:start]), {}
    metadata = header.pop("__metadata__", {})
    for name, entry in header.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], "<u2").reshape(entry["shape"])
    return tensors, metadata


def write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write uint16 as bfloat16."""
    header: dict = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, values in tensors.items():
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": (at, at + values.nbytes)}
        at += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values, "<u2").tobytes())


def floats(bits: np.ndarray) -> np.ndarray:
    """Bfloat16 as float64."""
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Float64 to bfloat16, half to even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def merged(text: dict[str, np.ndarray], changes: dict[str, np.ndarray], ids: list[int]) -> dict[str, np.ndarray]:
    """All weights of the checkpoint: W + B A of every matrix with a change, the rows `ids`, tower and projector."""
    made = dict(text)
    for name, values in changes.items():
        if name.endswith(".rows"):
            weight = f"{name.removesuffix('.rows')}.weight"
            made[weight] = made[weight].copy()
            made[weight][ids] = values
        elif name.endswith(".a"):
            matrix = name.removesuffix(".a")
            weight = f"{matrix}.weight"
            made[weight] = bfloat16(floats(made[weight]) + floats(changes[f"{matrix}.b"]) @ floats(values))
        elif not name.endswith(".b"):
            made[name] = values
    return made


def name_image_tokens(out: Path) -> None:
    """Write the tokenizer, in which the tokens of pictures have their names."""
    tokenizer = json.loads((TEXT_MODEL / "tokenizer.json").read_text())
    model = tokenizer["model"]
    model["vocab"] = {IMAGE_TOKENS.get(token, text): token for text, token in model["vocab"].items()}
    for added in tokenizer["added_tokens"]:
        added["content"] = IMAGE_TOKENS.get(added["id"], added["content"])
    settings = json.loads((TEXT_MODEL / "tokenizer_config.json").read_text())
    for token, text in IMAGE_TOKENS.items():
        settings["added_tokens_decoder"][str(token)]["content"] = text
    for name, value in (("tokenizer.json", tokenizer), ("tokenizer_config.json", settings)):
        (out / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def assemble(out: Path, changes: Path = HERE / CHANGES) -> Path:
    """Write the checkpoint into the folder `out`, which is made."""
    out.mkdir(parents=True, exist_ok=True)
    (text, _), (new, metadata) = read_tensors(TEXT_MODEL / WEIGHTS), read_tensors(changes)
    write_tensors(out / WEIGHTS, merged(text, new, [int(token) for token in metadata["rows"].split()]))
    config = json.loads((TEXT_MODEL / "config.json").read_text())
    config |= json.loads((HERE / "vision_config.json").read_text())
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    name_image_tokens(out)
    for source in (*(TEXT_MODEL / name for name in OF_TEXT_MODEL), *(HERE / name for name in OWN)):
        shutil.copy(source, out)
    shutil.copytree(TEXT_MODEL / "linear_spec_lora", out / "linear_spec_lora", dirs_exist_ok=True)
    return out


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the checkpoint")
    parser.add_argument("--changes", type=Path, default=HERE / CHANGES, help="weights of train.py (default: shipped)")
    args = parser.parse_args()
    print(f"{assemble(args.out, args.changes)}: a checkpoint for trimode-convert")


if __name__ == "__main__":
    main()
