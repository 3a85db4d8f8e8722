"""How much each weight matrix matters: the divergence of the model's outputs when that one alone is quantized.

To second order the divergence of a model with several matrices quantized is the sum of those with one, and each grows
with the squared error of its weights: Malinovskii et al., "Pushing the Limits of Large Language Model Quantization via
the Linearity Theorem", 2024. So one measurement per matrix, with a type in the middle of the range, tells how all other
types would do: by their errors, which need no run of the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytrimode import _native
from pytrimode.convert.encode import SourceTensor, encode_tensor
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import lora_beside
from pytrimode.gguf.keys import DEFAULT_BLOCK_LENGTH
from pytrimode.gguf.output import OutputFile
from pytrimode.gguf.types import GgmlType
from pytrimode.quantize.evaluation.files import file_facts
from pytrimode.quantize.evaluation.rows import CAUSAL, DRAFT, DRAFT_LORA, Piece, RowKind, block_kind, plan_text
from pytrimode.quantize.evaluation.scores import LogProbs, score, without_token
from pytrimode.quantize.importance.calibration import calibration_text
from pytrimode.threads import default_threads
from pytrimode.trimode import TriMode

N_CTX = 256
DEFAULT_CHUNKS = 2
MASK_RATIO = 0.5
FORMAT = 1
PROBES = (GgmlType.Q4_K, GgmlType.Q4_0)
"""Coarse enough to be seen behind the rounding of activations, fine enough for the second order. The first whose blocks
divide a row is taken."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SensitivityOptions:
    """How to measure.

    Attributes:
        chunks: of the calibration text, `N_CTX` tokens each.
        keep: a file that keeps what is measured: another run goes on from it. None: nothing is kept.
        threads: None leaves it to the engine.
        n_gpu_layers: as TriMode's.
    """

    chunks: int = DEFAULT_CHUNKS
    keep: Path | None = None
    threads: int | None = None
    n_gpu_layers: int | str = "auto"


def probe_of(tensor: SourceTensor) -> GgmlType | None:
    """Return the type that a matrix is tried with; None for a vector, and for rows that no type divides."""
    if len(tensor.shape) < 2:
        return None
    return next((kind for kind in PROBES if tensor.shape[-1] % kind.block == 0), None)


def measure_sensitivity(
    path: Path, tensors: Sequence[SourceTensor], options: SensitivityOptions, progress: Progress | None = None
) -> dict[str, float]:
    """By the name of each matrix: KL divergence in nats per row when it alone is quantized to `probe_of` it.

    Rows are half causal; a quarter are of drafts, with the drafter LoRA beside the model, and a quarter of blocks with
    half of their tokens masked.

    tensors: those of the model at `path`, of any types. progress: called with (matrices done, matrices in all).

    Raises ConversionError for a file in `options.keep` that is of something else; FileNotFoundError, ValueError and
    RuntimeError as TriMode for a model that cannot be run.
    """
    kept = Kept(options.keep, {"model": file_facts(path, is_adapter=False).identity, "rows": _rows_digest(options)})
    wanted = [tensor for tensor in tensors if probe_of(tensor)]
    if all(tensor.name in kept.found for tensor in wanted):
        return kept.found
    beside = lora_beside(path)
    with TriMode(
        path,
        lora_path=beside if beside.is_file() else None,
        n_ctx=2 * N_CTX,
        n_threads=options.threads,
        n_gpu_layers=options.n_gpu_layers,
        use_mmap=False,
    ) as model:
        rows = _Rows(model, options.chunks)
        for number, tensor in enumerate(wanted):
            if tensor.name not in kept.found:
                kept.add(tensor.name, _divergence(model, rows, tensor, options.threads or default_threads()))
            if progress:
                progress(number + 1, len(wanted))
    return kept.found


def _divergence(model: TriMode, rows: _Rows, tensor: SourceTensor, threads: int) -> float:
    """With one matrix quantized, and then as it was again."""
    probe, n_cols = probe_of(tensor), tensor.shape[-1]
    assert probe is not None
    rough = []
    for chunk in encode_tensor(tensor, probe, threads):
        rough.append(_native.encode(chunk, probe.name, tensor.kind.name, n_cols, threads))
    model.set_weight(tensor.name, b"".join(rough))
    del rough
    try:
        return rows.divergence()
    finally:
        with tensor.file.read(tensor.offset, tensor.offset + tensor.n_bytes) as data:
            model.set_weight(tensor.name, bytes(data))


class _Rows:
    """The rows that are compared, and the log-probabilities of the unchanged model."""

    def __init__(self, model: TriMode, chunks: int) -> None:
        self._model = model
        has_mask = model.mask_token_id >= 0
        block = int(model.metadata.get(keys.TRIMODE_BLOCK_LENGTH, DEFAULT_BLOCK_LENGTH))
        plan = plan_text(
            model,
            model.tokenize(calibration_text()),
            n_ctx=N_CTX,
            max_chunks=chunks,
            block_length=min(block, N_CTX // 2),
            seed=0,
        )
        draft = DRAFT_LORA if model.has_lora else DRAFT
        shares = [(CAUSAL, 0.5), (block_kind(MASK_RATIO), 0.25), (draft, 0.25)] if has_mask else [(CAUSAL, 1.0)]
        self._parts = []
        for kind, share in shares:
            pieces = [piece for number in range(len(plan.chunks)) for piece in plan.pieces(kind, number)]
            self._parts.append((kind, share, [(piece, self._score(kind, piece, None)[1]) for piece in pieces]))

    def divergence(self) -> float:
        """Of the model as it is now from what it was."""
        total = 0.0
        for kind, share, pieces in self._parts:
            klds = [self._score(kind, piece, base)[0] for piece, base in pieces]
            total += share * float(np.concatenate(klds).mean())
        return total

    def _score(self, kind: RowKind, piece: Piece, base: LogProbs | None) -> tuple[Any, LogProbs]:
        logits = self._model.logits(piece.tokens, block_start=piece.block_start, lora=kind.lora, first=piece.first)
        logits, targets = logits[piece.rows], piece.targets
        if kind.mask_ratio is not None:
            logits, targets = without_token(logits, targets, self._model.mask_token_id)
        scores, logprobs = score(logits, targets, base)
        return scores.kld, logprobs


def _rows_digest(options: SensitivityOptions) -> str:
    """Return what the rows and the way to measure depend on."""
    about = [FORMAT, N_CTX, options.chunks, MASK_RATIO, [kind.name for kind in PROBES], calibration_text()]
    return hashlib.sha256(repr(about).encode()).hexdigest()[:32]


class Kept:
    """What is measured, in a JSON file that grows by whole measurements."""

    def __init__(self, path: Path | None, about: dict[str, str]) -> None:
        """Read the file if it is there. Raises ConversionError where it is of another model or other rows."""
        self._path, self._about = path, about
        self.found: dict[str, float] = {}
        if path is None or not path.exists():
            return
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            known = {key: stored[key] for key in about}
            self.found = {str(name): float(value) for name, value in stored["tensors"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ConversionError(f"{path}: no file of sensitivities: give another name") from None
        for key, value in about.items():
            if known[key] != value:
                raise ConversionError(f"{path}: was measured with another {key}: give another name, or remove the file")

    def add(self, name: str, value: float) -> None:
        """Keep one more."""
        self.found[name] = value
        if self._path:
            text = json.dumps({**self._about, "tensors": self.found}, indent=1)
            with OutputFile(self._path, force=True) as out:
                out.write(text.encode())
                out.publish()
