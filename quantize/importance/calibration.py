"""Importance matrices from the activations that a tri-mode model really has: causal passes and block passes.

`llama-imatrix` runs causal passes over text and sums up the squares of what goes into each weight matrix. A tri-mode
model spends half of its rows elsewhere: on blocks of masks that see each other in both directions, with the drafter
LoRA on for drafts. Those rows are collected too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from pytrimode import _native
from pytrimode.convert.checkpoint.names import HEAD
from pytrimode.convert.imatrix_file import write_imatrix
from pytrimode.files.model_file import check_model_file, preflight
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import lora_beside
from pytrimode.gguf.header import read_gguf_header
from pytrimode.gguf.keys import DEFAULT_BLOCK_LENGTH
from pytrimode.gguf.output import check_output
from pytrimode.threads import default_threads

DEFAULT_CONTEXT = 512
CALIBRATION_TEXT = "calibration.txt"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CalibrationResult:
    """What a calibration wrote.

    Attributes:
        path: the importance matrix.
        entries: weight matrices covered.
        chunks: pieces of text.
        causal_rows: rows of causal passes, one per token.
        draft_rows: rows of blocks of masks after one token, with the drafter LoRA if there is one.
        denoise_rows: rows of blocks with some tokens masked.
        lora: the drafter LoRA was on for the drafts.
        seconds: from start to finish.
    """

    path: Path
    entries: int
    chunks: int
    causal_rows: int
    draft_rows: int
    denoise_rows: int
    lora: bool
    seconds: float


@dataclass(frozen=True)
class BlockPass:
    """A block to run after `position` tokens: its tokens with masks, and whether it is a draft."""

    position: int
    tokens: list[int]
    is_draft: bool


def calibration_text() -> str:
    """Return the text that ships: prose in several languages, code, sums, data, dialogue."""
    return Path(__file__).with_name(CALIBRATION_TEXT).read_text(encoding="utf-8")


def calibrate(
    model: str | PathLike[str],
    out_path: str | PathLike[str],
    *,
    text: str | None = None,
    dataset: str = CALIBRATION_TEXT,
    n_ctx: int = DEFAULT_CONTEXT,
    max_chunks: int | None = None,
    block_rows: float = 1.0,
    block_length: int | None = None,
    lora: bool = True,
    process_output: bool = False,
    parse_special: bool = False,
    threads: int | None = None,
    n_gpu_layers: int = 0,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> CalibrationResult:
    """Run a model over a text and write the importance matrix of its weights, in llama.cpp's GGUF format.

    Args:
        model: a GGUF model, best in BF16, F16 or Q8_0; its drafter LoRA is used if it lies beside.
        out_path: file to write.
        text: to run over, None for the one that ships; `dataset` is its name in the file.
        n_ctx: tokens per chunk; each chunk begins anew.
        max_chunks: at most as many chunks.
        block_rows: rows of block passes per row of a causal pass, half of them drafts and half with tokens masked at
            random; 1 is what self-speculation does, 0 what llama-imatrix does.
        block_length: of the block passes, None for the model's own.
        process_output: collect for the head too.
        parse_special: special tokens spelled out in the text become their ids.
        seed: of the random masks.
        progress: called with (chunks done, chunks in all).

    Raises ConversionError when the text is too short, or the output cannot be written; FileNotFoundError, ValueError
    and RuntimeError as TriMode for a model that cannot be loaded.
    """
    started = time.monotonic()
    path, out = check_model_file(Path(model)), Path(out_path)
    check_output(out, force=force)
    beside = lora_beside(path)
    adapter = beside if lora and beside.is_file() else None
    preflight(path, adapter, None)
    if n_ctx < 8 or block_rows < 0:
        raise ConversionError(f"n_ctx {n_ctx}, block_rows {block_rows}: at least 8 and at least 0")
    loaded = _native.Model(str(path), n_gpu_layers=n_gpu_layers, repack=False)
    collector = _native.Activations(
        loaded, lora_path=str(adapter) if adapter else "", n_ctx=n_ctx, n_threads=threads or default_threads()
    )
    block = block_length or read_gguf_header(path).metadata.get(keys.TRIMODE_BLOCK_LENGTH, DEFAULT_BLOCK_LENGTH)
    given = calibration_text() if text is None else text
    tokens = loaded.tokenize(given.encode(), loaded.add_bos, parse_special)
    chunks = _chunks(tokens, n_ctx, max_chunks, loaded.bos_token_id if loaded.add_bos else None)
    rng = np.random.default_rng(seed)
    rows = {"causal": 0, "draft": 0, "denoise": 0}
    for i, chunk in enumerate(chunks):
        collector.causal(chunk)
        rows["causal"] += len(chunk)
        for of in _blocks(chunk, block, block_rows, loaded.mask_token_id, rng):
            collector.block(of.tokens, of.position, of.is_draft)
            rows["draft" if of.is_draft else "denoise"] += len(of.tokens)
        if progress:
            progress(i + 1, len(chunks))
    sums = {name: sum_ for name, sum_ in collector.sums().items() if process_output or name != HEAD}
    extra = {keys.IMATRIX_ROWS.format(kind): n for kind, n in rows.items()}
    write_imatrix(out, sums, datasets=[dataset], chunks=len(chunks), chunk_size=n_ctx, force=force, extra=extra)
    return CalibrationResult(
        path=out,
        entries=len(sums),
        chunks=len(chunks),
        causal_rows=rows["causal"],
        draft_rows=rows["draft"],
        denoise_rows=rows["denoise"],
        lora=adapter is not None,
        seconds=time.monotonic() - started,
    )


def _chunks(tokens: Sequence[int], n_ctx: int, max_chunks: int | None, bos: int | None) -> list[list[int]]:
    """Whole chunks of a text, each with the bos token in the place of its first, as llama-imatrix does."""
    n = len(tokens) // n_ctx
    if n == 0:
        raise ConversionError(
            f"the text has {len(tokens)} tokens, one chunk needs {n_ctx}: give a longer text or a smaller context"
        )
    found = [list(tokens[i * n_ctx : (i + 1) * n_ctx]) for i in range(n)][:max_chunks]
    for chunk in found:
        if bos is not None:
            chunk[0] = bos
    return found


def _blocks(
    chunk: list[int], block: int, block_rows: float, mask: int, rng: np.random.Generator
) -> Iterator[BlockPass]:
    """Blocks within a chunk, from its end on: a pass drops what the cache holds behind it.

    Every second is a draft, all masks but the first token; the others are masked at random, as much as training does.
    Sources: the model card's decoding modes and training objective.
    """
    if mask < 0:
        return
    starts = range(len(chunk) - block, 0, -block)
    wanted = round(block_rows * len(chunk) / block)
    for i, start in enumerate(starts):
        if i >= wanted:
            return
        tokens = np.array(chunk[start : start + block])
        is_draft = i % 2 == 0
        masked = np.ones(block, bool) if is_draft else rng.random(block) < rng.random()
        masked[0] = False
        yield BlockPass(start, np.where(masked, mask, tokens).tolist(), is_draft)
