"""llama.cpp's own way from a checkpoint to a quantized file, to compare with: convert_hf_to_gguf.py, then quantize.

The script is in llama-cpp-python's source distribution, in vendor/llama.cpp; it knows the same decoder as Ministral 3.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import safetensors

from pytrimode.convert.checkpoint.safetensors_file import SafetensorsFile
from pytrimode.gguf.header import GgufHeader, TensorInfo, read_gguf_header
from pytrimode.gguf.types import OUTPUT_TYPES

OTHER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
PIECE_BYTES = 16 << 20
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

# The script tells tokenizers apart by a checksum of what they do to a text. A made-up tokenizer has another one.
CONVERT = """
import sys
directory, *arguments = sys.argv[1:]
sys.path.insert(0, directory)
sys.argv = ["convert_hf_to_gguf.py", *arguments]
import conversion.base
conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "tekken"
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""
QUANTIZE = """
import ctypes, sys
import llama_cpp
source, out, ftype = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = int(ftype)
sys.exit(llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)))
"""


def ministral_checkpoint(source: Path, directory: Path) -> Path:
    """Return the same weights, byte for byte, under the names of transformers' Ministral3ForCausalLM."""
    directory.mkdir()
    for name in OTHER_FILES:
        shutil.copy(source / name, directory / name)
    config = json.loads((source / "config.json").read_text())
    config |= {"architectures": ["Ministral3ForCausalLM"], "model_type": "ministral3"}
    (directory / "config.json").write_text(json.dumps(config))
    for path in sorted(source.glob("*.safetensors")):
        _rename_tensors(path, directory / path.name)
    index = source / "model.safetensors.index.json"
    if index.is_file():
        listed = json.loads(index.read_text())
        listed["weight_map"] = {_ministral_name(name): file for name, file in listed["weight_map"].items()}
        (directory / index.name).write_text(json.dumps(listed))
    return directory


def convert_command(llama_cpp: Path, model: Path, out: Path, outtype: str) -> list[str]:
    """Run convert_hf_to_gguf.py of the source tree `llama_cpp`."""
    return [sys.executable, "-c", CONVERT, str(llama_cpp), str(model), "--outfile", str(out), "--outtype", outtype]


def quantize_command(source: Path, out: Path, outtype: str) -> list[str]:
    """Run llama_model_quantize on all cores."""
    return [sys.executable, "-c", QUANTIZE, str(source), str(out), str(OUTPUT_TYPES[outtype].file_type)]


def agreement(ours: Path, stock: Path) -> str:
    """How many tensors of two files have the same type, and the same bytes. Raises SystemExit where they differ."""
    first, second = read_gguf_header(ours), read_gguf_header(stock)
    theirs = {tensor.name: tensor for tensor in second.tensors}
    if theirs.keys() != {tensor.name for tensor in first.tensors}:
        raise SystemExit(f"{ours} and {stock} hold different tensors")
    same_type = [tensor for tensor in first.tensors if tensor.type == theirs[tensor.name].type]
    same_bytes = sum(_same_bytes(first, tensor, second, theirs[tensor.name]) for tensor in same_type)
    return f"{len(theirs)} tensors, {len(same_type)} of the same type, {same_bytes} with the same bytes"


def _ministral_name(name: str) -> str:
    return "lm_head.weight" if name == "diffusion_head.weight" else name.replace("encoder.", "model.", 1)


def _rename_tensors(source: Path, target: Path) -> None:
    data = np.memmap(source, np.uint8, "r")
    tensors = {
        _ministral_name(name): safetensors.TensorSpec(
            dtype=DTYPES[tensor.dtype],
            shape=tensor.shape,
            data_ptr=data.ctypes.data + tensor.offset,
            data_len=tensor.n_bytes,
        )
        for name, tensor in SafetensorsFile(source).tensors.items()
    }
    safetensors.serialize_file(tensors, target, metadata={"format": "pt"})


def _same_bytes(one: GgufHeader, first: TensorInfo, two: GgufHeader, second: TensorInfo) -> bool:
    left = first.n_bytes or 0
    with one.path.open("rb") as a, two.path.open("rb") as b:
        a.seek(one.data_start + first.offset)
        b.seek(two.data_start + second.offset)
        while left:
            piece = min(PIECE_BYTES, left)
            if a.read(piece) != b.read(piece):
                return False
            left -= piece
    return True
