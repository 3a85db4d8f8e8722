"""What the tests of quantization share: stock llama.cpp's own quantization, importance matrices, a quick evaluation."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from pytrimode.convert.imatrix_file import write_imatrix
from pytrimode.gguf.header import read_gguf_header
from pytrimode.quantize.evaluation.options import EvaluationOptions

from .convert_helpers import read_tensors

N_CTX, N_CHUNKS = 256, 2
PROMPTS = ["What is 47 + 85?", "Spell castle and ruby.", "Reverse this list: goat, cup, river"]
QUICK = EvaluationOptions(
    n_ctx=N_CTX, max_chunks=N_CHUNKS, mask_ratios=(0.5,), thresholds=(0.9,), block_length=16, max_tokens=24,
    prompts={"all": PROMPTS}, speed_rounds=0, threads=1, n_gpu_layers=0,
)  # fmt: skip
"""Of an evaluation that takes seconds."""

COMMAND = [sys.executable, "-m", "pytrimode.quantize.cli"]
Importance = Mapping[str, NDArray[np.float32]]


def run_quantize(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run trimode-quantize in a process of its own."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)


_IGNORE_LOG = llama_cpp.llama_log_callback(lambda level, text, data: None)
"""Of the module, since libllama keeps the pointer."""


def stock_quantize(src: Path, dst: Path, ftype: int, *, imatrix: Importance | None = None, **options: Any) -> str:
    """llama.cpp's llama_model_quantize; `options` are fields of its parameters. Returns its log."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = ftype, 1
    overrides = options.pop("tensor_types", None)
    if overrides:
        entries = [(pattern.encode(), number) for pattern, number in overrides] + [(None, 0)]
        params.tt_overrides = (llama_cpp.llama_model_tensor_override * len(entries))(*entries)
    if imatrix is not None:
        data = [
            (name.encode(), values.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), values.size)
            for name, values in imatrix.items()
        ]
        params.imatrix = (llama_cpp.llama_model_imatrix_data * (len(data) + 1))(*data, (None, None, 0))
    for name, value in options.items():
        setattr(params, name, value)
    log: list[bytes] = []
    receive = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text))
    llama_cpp.llama_log_set(receive, ctypes.c_void_p(0))
    try:
        code = llama_cpp.llama_model_quantize(str(src).encode(), str(dst).encode(), ctypes.byref(params))
    finally:
        llama_cpp.llama_log_set(_IGNORE_LOG, ctypes.c_void_p(0))
    said = b"".join(log).decode()
    assert code == 0, said
    return said


def stock_types(src: Path, ftype: int, **options: Any) -> dict[str, str]:
    """The type of each tensor that llama.cpp would write, from the log of its dry run."""
    log = stock_quantize(src, src.with_name("unwritten.gguf"), ftype, dry_run=True, **options)
    lines = re.findall(r"^\[ *\d+/ *\d+\] (\S+) .*type = +(\w+), size = [^(\n]*(?:\((\w+)\))?$", log, re.MULTILINE)
    return {name: (new or old).upper() for name, old, new in lines}


def random_importance(gguf_file: Path, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """An importance for every matrix but the embedding, as an imatrix file has it."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(0.1, 10, int(tensor.shape[0])).astype(np.float32)
        for name, tensor in read_tensors(gguf_file).items()
        if len(tensor.shape) > 1 and name != "token_embd.weight"
    }


def write_importance(path: Path, importance: Importance) -> Path:
    """An importance matrix file in llama.cpp's GGUF format; its values come back unchanged."""
    sums = {name: (values.astype(np.float64), 1) for name, values in importance.items()}
    write_imatrix(path, sums, datasets=["random.txt"], chunks=1, chunk_size=512)
    return path


def stored_tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    """Type and data of each tensor of a GGUF file; of types that gguf-py may not know too."""
    header = read_gguf_header(path)
    data = path.read_bytes()[header.data_start :]
    return {info.name: (info.type, data[info.offset : info.offset + (info.n_bytes or 0)]) for info in header.tensors}
