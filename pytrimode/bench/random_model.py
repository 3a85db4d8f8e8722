"""A model of random weights in the shape of a real one, straight as GGUF: for speed, not for text.

Weights are drawn from a normal distribution once for each tensor type, encoded with ggml's quantizers, and repeated
from another start for every piece, so that writing a file takes about as long as the disk needs. The tokenizer is that
of the shipped checkpoint, with made-up tokens up to the vocabulary's size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from pytrimode import _native
from pytrimode.convert import lora_path
from pytrimode.convert.checkpoint.hparams import Hyperparameters
from pytrimode.convert.checkpoint.names import HEAD, expected_weights
from pytrimode.convert.lora import drafter_pairs
from pytrimode.files.shipped_model import shipped_gguf
from pytrimode.gguf import keys
from pytrimode.gguf.header import read_gguf_header
from pytrimode.gguf.layout import padded
from pytrimode.gguf.metadata import Metadata, decode_strings
from pytrimode.gguf.output import check_space
from pytrimode.gguf.types import OUTPUT_TYPES, QUANTIZATION_VERSION, GgmlType
from pytrimode.gguf.writer import OutputTensor, encode_header
from pytrimode.plan.model_shape import ModelShape, model_shape
from pytrimode.plan.weights import chosen_types

SPREAD = 0.02
"""Standard deviation of the weights: that of the family's initializer_range."""
LORA_SPREAD = 0.002
"""Of the drafter LoRA's: drafts differ, and nothing grows beyond bounds."""
LORA_ALPHA_PER_RANK = 4.0
"""The published adapters' scale: alpha 512 of rank 128."""
DEFAULT_LORA_RANK = 128
_POOL = 1 << 20  # weights that are drawn
_HALVES = 512
"""Pieces of a head's rows to choose from: two of them make a row."""
_NORMAL_TOKEN = 1  # LLAMA_TOKEN_TYPE_NORMAL


@contextmanager
def random_model(shape: str, outtype: str, n_layers: int | None = None) -> Iterator[Path]:
    """Write a random model into a temporary directory, its drafter LoRA beside it; both are gone at the end.

    `shape`: see `plan.model_shape.model_shape`. `n_layers`: only so many. Raises as `write_random_model` and
    `model_shape`.
    """
    found = model_shape(shape)
    with tempfile.TemporaryDirectory(prefix="trimode-random-") as directory:
        path = Path(directory) / f"random-{found.name}-{outtype.upper()}.gguf"
        write_random_model(path, found, outtype, n_layers)
        yield path


def write_random_model(path: Path, shape: ModelShape, outtype: str, n_layers: int | None = None, seed: int = 0) -> None:
    """Write a random model of a shape to `path`, and a drafter LoRA where the converter would put it.

    outtype: a type of the converter's, by name. n_layers: only so many layers. Equal arguments give equal files. Raises
    ValueError for an unknown type, a number of layers that the shape has not, and a vocabulary that is smaller than the
    tokenizer's; ConversionError where the disk has no room.
    """
    if outtype not in OUTPUT_TYPES:
        raise ValueError(f"type {outtype!r}: expected one of {', '.join(OUTPUT_TYPES)}")
    hparams = shape.hparams
    if n_layers is not None and not 1 <= n_layers <= hparams.n_layers:
        raise ValueError(f"layers {n_layers}: {shape.name} has {hparams.n_layers}")
    hparams = replace(hparams, n_layers=n_layers or hparams.n_layers)
    pools = _Pools(np.random.default_rng(seed))
    kinds = chosen_types(hparams, outtype)
    tensors = [_tensor(w.target, w.shape, kinds[w.target], pools, SPREAD) for w in expected_weights(hparams)]
    _write(path, _metadata(shape, hparams, outtype), tensors)
    rank = shape.lora_rank or DEFAULT_LORA_RANK
    pairs = [_tensor(w.target, w.shape, GgmlType.F32, pools, LORA_SPREAD) for w in drafter_pairs(hparams, rank)]
    _write(lora_path(path), _adapter_metadata(shape, rank), pairs)


class _Pools:
    """Random weights, encoded once for each type and spread."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._weights = rng.standard_normal(_POOL, dtype=np.float32)
        self._encoded: dict[tuple[GgmlType, float], memoryview] = {}

    def pieces(self, kind: GgmlType, n_bytes: int, spread: float) -> Iterable[memoryview]:
        """So many bytes of whole blocks."""
        pool = self._pool(kind, spread)
        n_pool = len(pool) // 2
        while n_bytes > 0:
            start = int(self._rng.integers(n_pool // kind.block_bytes)) * kind.block_bytes
            n = min(n_pool, n_bytes)
            yield pool[start : start + n]
            n_bytes -= n

    def rows(self, kind: GgmlType, shape: tuple[int, ...], spread: float) -> Iterator[bytes]:
        """Rows of two blocks or more, of which no two are equal up to the square of `_HALVES`: equal ones have equal
        logits.
        """
        pool = self._pool(kind, spread)
        n_blocks = shape[-1] // kind.block
        left = (n_blocks // 2) * kind.block_bytes
        right = n_blocks * kind.block_bytes - left
        stride = len(pool) // 2 // kind.block_bytes // _HALVES * kind.block_bytes
        for row in range(shape[0]):
            first, second = row % _HALVES * stride, row // _HALVES % _HALVES * stride + kind.block_bytes
            yield bytes(pool[first : first + left]) + bytes(pool[second : second + right])

    def _pool(self, kind: GgmlType, spread: float) -> memoryview:
        """All blocks twice: a piece may begin at any of them."""
        if (kind, spread) not in self._encoded:
            weights = self._weights * np.float32(spread)
            if kind is GgmlType.F32:
                data = weights.tobytes()
            else:
                n_cols = max(kind.block, 256)
                importance = np.ones(n_cols, np.float32) if _native.requires_imatrix(kind.name) else None
                data = bytes(_native.encode(weights, "F32", kind.name, n_cols, 0, importance))
            self._encoded[kind, spread] = memoryview(data + data)
        return self._encoded[kind, spread]


def _tensor(name: str, shape: tuple[int, ...], kind: GgmlType, pools: _Pools, spread: float) -> OutputTensor:
    n_bytes = kind.n_bytes(shape)
    if len(shape) == 1:  # the weights of a norm
        ones = np.ones(shape, np.float32).tobytes()
        return OutputTensor(name, shape, kind, lambda: [ones])
    if name == HEAD and shape[-1] >= 2 * kind.block:
        return OutputTensor(name, shape, kind, lambda: pools.rows(kind, shape, spread))
    return OutputTensor(name, shape, kind, lambda: map(bytes, pools.pieces(kind, n_bytes, spread)))


def _metadata(shape: ModelShape, hparams: Hyperparameters, outtype: str) -> Metadata:
    metadata = Metadata()
    metadata.string(keys.GENERAL_ARCHITECTURE, keys.ARCHITECTURE)
    metadata.string(keys.GENERAL_TYPE, "model")
    metadata.string(keys.GENERAL_NAME, f"random weights, {shape.name}, {hparams.n_layers} layers")
    metadata.u32(keys.GENERAL_FILE_TYPE, OUTPUT_TYPES[outtype].file_type)
    metadata.u32(keys.GENERAL_QUANTIZATION_VERSION, QUANTIZATION_VERSION)
    hparams.add_to(metadata)
    _add_tokenizer(metadata, hparams.vocab_size)
    return metadata


def _add_tokenizer(metadata: Metadata, n_vocab: int) -> None:
    path = shipped_gguf()
    header = read_gguf_header(path)
    with path.open("rb") as file:

        def value(key: str) -> bytes:
            begin, end = header.spans[key]
            file.seek(begin)
            return file.read(end - begin)

        for key in header.spans:
            if key.startswith("tokenizer.") and key not in (keys.TOKENIZER_TOKENS, keys.TOKENIZER_TOKEN_TYPE):
                metadata.encoded(key, value(key))
        tokens = decode_strings(value(keys.TOKENIZER_TOKENS))
        n_known = len(tokens)
        types = np.frombuffer(value(keys.TOKENIZER_TOKEN_TYPE), "<i4")[-n_known:].tolist()
    if n_vocab < n_known:
        raise ValueError(f"a vocabulary of {n_vocab} is smaller than the shipped tokenizer's, {n_known}")
    known = set(tokens)
    made_up = (name for name in (f"[{i}]" for i in range(2 * n_vocab)) if name not in known)
    metadata.strings(keys.TOKENIZER_TOKENS, tokens + [next(made_up) for _ in range(n_vocab - n_known)])
    metadata.i32s(keys.TOKENIZER_TOKEN_TYPE, types + [_NORMAL_TOKEN] * (n_vocab - n_known))


def _adapter_metadata(shape: ModelShape, rank: int) -> Metadata:
    metadata = Metadata()
    metadata.string(keys.GENERAL_ARCHITECTURE, keys.ARCHITECTURE)
    metadata.string(keys.GENERAL_TYPE, "adapter")
    metadata.string(keys.GENERAL_NAME, f"random drafter LoRA, {shape.name}")
    metadata.u32(keys.GENERAL_FILE_TYPE, OUTPUT_TYPES["f32"].file_type)
    metadata.string(keys.ADAPTER_TYPE, "lora")
    metadata.f32(keys.ADAPTER_LORA_ALPHA, LORA_ALPHA_PER_RANK * rank)
    return metadata


def _write(path: Path, metadata: Metadata, tensors: list[OutputTensor]) -> None:
    """Not as `gguf.output.OutputFile` does: what is to be read at once stays in memory, and needs not be safe."""
    header = encode_header(metadata, tensors)
    check_space(path, len(header) + sum(padded(tensor.n_bytes) for tensor in tensors))
    with path.open("wb") as file:
        file.write(header)
        for tensor in tensors:
            _write_all(file.write, tensor.chunks())
            file.write(bytes(padded(tensor.n_bytes) - tensor.n_bytes))


def _write_all(write: Callable[[bytes], int], chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        write(chunk)
