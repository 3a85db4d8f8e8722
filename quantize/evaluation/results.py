"""What an evaluation found, as in its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict, cast

from pytrimode.gguf.errors import ConversionError
from pytrimode.quantize.evaluation.answers import AnswerFigures
from pytrimode.quantize.evaluation.scores import RowFigures

FORMAT = 1
"""Of the JSON."""


class SpeedFigures(TypedDict):
    """Tokens per second in mode ar as a ratio to the base's, over rounds."""

    median: float
    lowest: float
    highest: float


class EvaluatedAdapter(TypedDict):
    """A drafter LoRA with a file: its draft rows and its self-spec answers. `type`: of most of its weights."""

    file: str
    type: str
    bytes: int
    bits_per_weight: float
    rows: dict[str, RowFigures]
    answers: dict[str, AnswerFigures]


class EvaluatedFile(TypedDict):
    """A model file: figures by kind of rows and by setting. `type`: a file type such as q4_k_m."""

    file: str
    type: str
    bytes: int
    parameters: int
    bits_per_weight: float
    rows: dict[str, RowFigures]
    answers: dict[str, AnswerFigures]
    adapters: list[EvaluatedAdapter]
    speed: SpeedFigures | None


class About(TypedDict):
    """What makes an evaluation comparable with another."""

    base: str
    model: str
    text: str
    tokens: int
    chunks: int
    n_ctx: int
    block_length: int
    mask_ratios: list[float]
    prompts: int
    max_tokens: int
    speed_rounds: int
    versions: str


class Evaluation(TypedDict):
    """All of it; the first file is the base."""

    format: int
    about: About
    files: list[EvaluatedFile]


def read_evaluation(path: Path) -> Evaluation:
    """Return what `trimode-quantize eval --json` wrote. Raises ConversionError for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConversionError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ConversionError(f"{path}: no evaluation of format {FORMAT}: make it with trimode-quantize eval --json")
    if not _is_complete(found):
        raise ConversionError(f"{path}: an incomplete evaluation: make it again with trimode-quantize eval --json")
    return cast(Evaluation, found)


def _is_complete(found: dict[str, Any]) -> bool:
    """Whether all keys are there, down to the figures."""
    try:
        files = found["files"]
        parts = [(found, Evaluation), (found["about"], About), *((file, EvaluatedFile) for file in files)]
        parts += [(adapter, EvaluatedAdapter) for file in files for adapter in file["adapters"]]
        for item in [part for part, kind in parts if kind in (EvaluatedFile, EvaluatedAdapter)]:
            parts += [(figures, RowFigures) for figures in item["rows"].values()]
            parts += [(figures, AnswerFigures) for figures in item["answers"].values()]
        return bool(files) and all(kind.__annotations__.keys() <= part.keys() for part, kind in parts)
    except (TypeError, KeyError, AttributeError):
        return False
