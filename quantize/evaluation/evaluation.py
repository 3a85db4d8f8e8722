"""How much a quantized file differs from the one it was made of: `trimode-quantize eval BASE QUANT...`.

What a tri-mode model computes is compared for every kind of row that it has: causal ones (perplexity, as llama.cpp
measures it), blocks with some tokens masked (diffusion), blocks of masks alone (drafts), these also with the drafter
LoRA. Then for what a user sees: answers in every mode, tokens per forward, speed.

`evaluation_rows` (which rows), `evaluation_scores` (logits to figures), `evaluation_answers` (prompts),
`evaluation_store` (what is done), `evaluation_run` (all of it for a file), `evaluation_report` (tables).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from os import PathLike
from pathlib import Path

from pytrimode import _native
from pytrimode.bench.prompts import tokenize
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.keys import DEFAULT_BLOCK_LENGTH
from pytrimode.quantize.evaluation.answers import speed_ratio
from pytrimode.quantize.evaluation.files import FileFacts, LazyModel, ModelFile, model_file
from pytrimode.quantize.evaluation.options import EvaluationOptions
from pytrimode.quantize.evaluation.results import FORMAT, EvaluatedFile, Evaluation
from pytrimode.quantize.evaluation.rows import TextPlan, plan_text
from pytrimode.quantize.evaluation.run import Progress, Run
from pytrimode.quantize.evaluation.store import Store
from pytrimode.trimode import TriMode

EVALUATION_TEXT = "evaluation.txt"
ANSWER_CONTEXT = 4096
"""Tokens of a prompt with its answer."""


def evaluation_text() -> str:
    """Return the text that ships: prose, documentation and code, none of it part of the calibration text."""
    return Path(__file__).with_name(EVALUATION_TEXT).read_text(encoding="utf-8")


def evaluate(
    base: str | PathLike[str],
    quants: Sequence[str | PathLike[str]] = (),
    *,
    loras: Sequence[str | PathLike[str]] | None = None,
    text: str | None = None,
    text_name: str = EVALUATION_TEXT,
    options: EvaluationOptions | None = None,
    base_logits: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare GGUF files of one model with the first.

    Args:
        base: the best file there is, BF16 or F16: what the others are compared with.
        quants: the others.
        loras: drafter LoRAs to evaluate every file with, None for the one beside each. Draft rows are compared with
            those of the base with the first of them.
        text: to run over, None for the one that ships; `text_name` is what the result calls it.
        base_logits: keeps what has been computed, so that an interrupted evaluation goes on where it was, and another
            one over the same text compares further files without running the base again; 2 bytes per row and token of
            the vocabulary. None: a temporary file.
        progress: called with (what, steps done, steps in all).

    Raises ConversionError for files that do not belong together, a text that is too short, a `base_logits` of another
    model or text; FileNotFoundError, ValueError and RuntimeError as TriMode for a model that cannot be loaded.
    """
    chosen, report = options or EvaluationOptions(), progress or _silent
    given = None if loras is None else [Path(lora) for lora in loras]
    files = [model_file(Path(path), given) for path in (base, *quants)]
    content = evaluation_text() if text is None else text
    with ExitStack() as stack:
        first = stack.enter_context(_lazy(files[0].facts, next(iter(files[0].adapters), None), chosen))
        model = first()
        tokens = model.tokenize(content, special=chosen.parse_special)
        plan = plan_text(
            model,
            tokens,
            n_ctx=chosen.n_ctx,
            max_chunks=chosen.max_chunks,
            block_length=chosen.block_length
            or int(model.metadata.get(keys.TRIMODE_BLOCK_LENGTH, DEFAULT_BLOCK_LENGTH)),
            seed=chosen.seed,
        )
        prompts = [prompt for category in tokenize(model, chosen.prompts, 0).values() for prompt in category]
        if base_logits is None:
            base_logits = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trimode-eval-"))) / "base"
        store = stack.enter_context(Store(Path(base_logits), _about_logits(files[0].facts, tokens, plan)))
        vocabulary = (model.n_vocab, model.mask_token_id)

        def open_model(facts: FileFacts, adapter: FileFacts | None) -> LazyModel:
            lazy = _lazy(facts, adapter, chosen)
            lazy.check = lambda loaded: _check_vocabulary(loaded, vocabulary, content, tokens, chosen.parse_special)
            return lazy

        run = Run(store, plan, prompts, chosen, open_model, report)
        run.check_space(model.n_vocab, lora=bool(files[0].adapters))
        found = [run.base(files[0], first)]
        first.close()
        found += [run.other(file) for file in files[1:]]
    _name_apart(files, found)
    if chosen.speed_rounds:
        _measure_speed(files, found, prompts, chosen, report)
    return {
        "format": FORMAT,
        "about": {
            "base": found[0]["file"],
            "model": model.metadata.get(keys.GENERAL_NAME, ""),
            "text": text_name,
            "tokens": len(tokens),
            "chunks": len(plan.chunks),
            "n_ctx": plan.n_ctx,
            "block_length": plan.block_length,
            "mask_ratios": list(chosen.mask_ratios) if plan.mask_token >= 0 else [],
            "prompts": len(prompts),
            "max_tokens": chosen.max_tokens,
            "speed_rounds": chosen.speed_rounds,
            "versions": f"pytrimode {version('pytrimode')}, llama-cpp-python {_native.LLAMA_CPP_PYTHON_VERSION}",
        },
        "files": found,
    }


def _silent(what: str, done: int, total: int) -> None:
    pass


def _lazy(model: FileFacts, adapter: FileFacts | None, options: EvaluationOptions) -> LazyModel:
    """With room for a chunk and its block, and for answers."""
    return LazyModel(
        model,
        adapter,
        n_ctx=max(options.n_ctx + 128, ANSWER_CONTEXT),
        n_threads=options.threads,
        n_gpu_layers=options.n_gpu_layers,
    )


def _about_logits(base: FileFacts, tokens: Sequence[int], plan: TextPlan) -> dict[str, object]:
    """Return what saved log-probabilities depend on."""
    return {
        "base": base.identity,
        "text": hashlib.sha256(repr(list(tokens)).encode()).hexdigest()[:32],
        "context size": plan.n_ctx,
        "block length": plan.block_length,
        "seed": plan.seed,
        "version of pytrimode": version("pytrimode"),
        "version of llama-cpp-python": _native.LLAMA_CPP_PYTHON_VERSION,
    }


def _check_vocabulary(
    model: TriMode, vocabulary: tuple[int, int], text: str, tokens: Sequence[int], parse_special: bool
) -> None:
    found = (model.n_vocab, model.mask_token_id)
    if found != vocabulary:
        raise ConversionError(
            f"{model.model_path}: {found[0]} tokens and mask token {found[1]}, the base has {vocabulary[0]} and "
            f"{vocabulary[1]}: compare files of one model"
        )
    if model.tokenize(text, special=parse_special) != tokens:
        raise ConversionError(f"{model.model_path}: its tokenizer is not the base's: compare files of one model")


def _name_apart(files: Sequence[ModelFile], found: Sequence[EvaluatedFile]) -> None:
    """Files of one name in several directories are called by their paths."""
    count = Counter(path.name for path in {file.facts.path for file in files})
    for file, entry in zip(files, found, strict=True):
        if count[file.facts.path.name] > 1:
            entry["file"] = str(file.facts.path)


def _measure_speed(
    files: Sequence[ModelFile],
    found: Sequence[EvaluatedFile],
    prompts: Sequence[Sequence[int]],
    options: EvaluationOptions,
    progress: Progress,
) -> None:
    """Each file against the first, both in memory."""
    for file, entry in list(zip(files, found, strict=True))[1:]:
        with _lazy(files[0].facts, None, options) as base, _lazy(file.facts, None, options) as other:
            ratio = speed_ratio(
                base(),
                other(),
                prompts,
                options.speed_rounds,
                lambda done, name=file.facts.path.name: progress(f"{name}: speed", done, options.speed_rounds + 1),  # type: ignore[misc]
            )
        entry["speed"] = {"median": ratio.median, "lowest": ratio.lowest, "highest": ratio.highest}
