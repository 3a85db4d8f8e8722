"""The work of an evaluation, file by file; what the store has already is not done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from pytrimode.bench.plan import Setting
from pytrimode.gguf.output import check_space
from pytrimode.options import modes
from pytrimode.quantize.evaluation.answers import (
    GREEDY,
    Answer,
    AnswerFigures,
    answer_figures,
    ask,
    key_of,
    prompt_digest,
    settings_of,
)
from pytrimode.quantize.evaluation.files import FileFacts, LazyModel, ModelFile
from pytrimode.quantize.evaluation.options import EvaluationOptions
from pytrimode.quantize.evaluation.results import EvaluatedAdapter, EvaluatedFile
from pytrimode.quantize.evaluation.rows import CAUSAL, DRAFT, DRAFT_LORA, Piece, RowKind, TextPlan, block_kind
from pytrimode.quantize.evaluation.scores import LogProbs, RowFigures, Scores, figures, score, without_token
from pytrimode.quantize.evaluation.store import Store
from pytrimode.trimode import TriMode

BASE = "base"
"""Whose scores are those of the base itself, with nothing to compare them with."""

Progress = Callable[[str, int, int], None]
Open = Callable[[FileFacts, "FileFacts | None"], LazyModel]


class Run:
    """What stays the same from file to file."""

    def __init__(
        self,
        store: Store,
        plan: TextPlan,
        prompts: Sequence[Sequence[int]],
        options: EvaluationOptions,
        open_model: Open,
        progress: Progress,
    ) -> None:
        """`open_model` loads a file with an adapter, lazily; `progress` as `evaluate`'s."""
        self._store = store
        self._plan = plan
        self._prompts = prompts
        self._max_tokens = options.max_tokens
        self._open = open_model
        self._progress = progress
        has_mask = plan.mask_token >= 0
        self._kinds = [CAUSAL, *map(block_kind, options.mask_ratios), DRAFT] if has_mask else [CAUSAL]
        self._settings = settings_of(plan.block_length, options.thresholds, has_mask=has_mask)
        self._reference: FileFacts | None = None
        self._base_answers: dict[str, list[Answer]] = {}

    def check_space(self, n_vocab: int, *, lora: bool) -> None:
        """Check the disk. Raises ConversionError where the log-probabilities of the base will not fit."""
        kinds = [*self._kinds, *([DRAFT_LORA] if lora else [])]
        n_rows = len(self._plan.chunks) * sum(len(p.rows) for kind in kinds for p in self._plan.pieces(kind, 0))
        there = self._store.path.stat().st_size
        check_space(self._store.path, max(0, LogProbs.BYTES * n_rows * n_vocab - there))

    def base(self, file: ModelFile, model: LazyModel) -> EvaluatedFile:
        """Return the file that others are compared with; `model` has its first adapter. To be called first."""
        self._reference = file.adapters[0] if file.adapters else None
        return self._file(file, model, BASE)

    def other(self, file: ModelFile) -> EvaluatedFile:
        """Another file."""
        with self._open(file.facts, file.adapters[0] if file.adapters else None) as model:
            return self._file(file, model, file.facts.identity)

    def _file(self, file: ModelFile, model: LazyModel, owner: str) -> EvaluatedFile:
        facts = file.facts
        rows = {kind.name: self._rows(facts, model, owner, kind, kind.name) for kind in self._kinds}
        answers = {key_of(setting): self._answers(facts, model, facts.identity, setting) for setting in self._settings}
        if owner == BASE:
            self._base_answers = answers
        adapters = []
        for number, adapter in enumerate(file.adapters):
            if number == 0:
                adapters.append(self._adapter(file, adapter, model, owner, answers))
            else:
                with self._open(facts, adapter) as other:
                    adapters.append(self._adapter(file, adapter, other, owner, answers))
        return {
            "file": facts.path.name,
            "type": facts.outtype,
            "bytes": facts.n_bytes,
            "parameters": facts.n_params,
            "bits_per_weight": facts.bits_per_weight,
            "rows": rows,
            "answers": {
                key_of(setting): self._figures(setting, answers[key_of(setting)], answers, owner)
                for setting in self._settings
            },
            "adapters": adapters,
            "speed": None,
        }

    def _adapter(
        self,
        file: ModelFile,
        adapter: FileFacts,
        model: LazyModel,
        owner: str,
        plain: Mapping[str, Sequence[Answer]],
    ) -> EvaluatedAdapter:
        """Return the drafts of a file with an adapter, `model` having both; `plain`: the file's answers without it."""
        rows, answers = {}, {}
        if self._plan.mask_token >= 0:
            reference = self._reference.identity if self._reference else ""
            is_reference = owner == BASE and adapter.identity == reference
            who = BASE if is_reference else f"{file.facts.identity} {adapter.identity}"
            kind_key = f"{DRAFT_LORA.name} {reference}"
            rows[DRAFT_LORA.name] = self._rows(adapter, model, who, DRAFT_LORA, kind_key)
            without = next(setting for setting in self._settings if setting.mode == modes.SELF_SPEC)
            setting = replace(without, use_lora=True)
            found = self._answers(adapter, model, f"{file.facts.identity} {adapter.identity}", setting)
            answers[key_of(setting)] = self._figures(setting, found, plain, owner)
        return {
            "file": adapter.path.name,
            "type": adapter.outtype,
            "bytes": adapter.n_bytes,
            "bits_per_weight": adapter.bits_per_weight,
            "rows": rows,
            "answers": answers,
        }

    # --- Rows ------------------------------------------------------------------------------------------------------

    def _rows(self, facts: FileFacts, model: LazyModel, owner: str, kind: RowKind, kind_key: str) -> RowFigures:
        """Of all chunks. `owner` and `kind_key` name the scores in the store."""
        found = []
        n = len(self._plan.chunks)
        for number in range(n):
            scores = self._store.scores(owner, kind_key, number)
            if scores is None:
                loaded = model()
                with self._store.transaction():
                    scores = self._chunk(loaded, owner, kind, kind_key, number)
                    self._store.put_scores(owner, kind_key, number, scores)
            found.append(scores)
            self._progress(f"{facts.path.name}: rows, {kind.name}", number + 1, n)
        return figures(Scores.joined(found))

    def _chunk(self, model: TriMode, owner: str, kind: RowKind, kind_key: str, number: int) -> Scores:
        found = []
        for i, piece in enumerate(self._plan.pieces(kind, number)):
            base = None if owner == BASE else self._store.base(kind_key, number, i)
            scores, logprobs = self._score(model, kind, piece, base)
            if owner == BASE:
                self._store.put_base(kind_key, number, i, logprobs)
            found.append(scores)
        return Scores.joined(found)

    def _score(self, model: TriMode, kind: RowKind, piece: Piece, base: LogProbs | None) -> tuple[Scores, LogProbs]:
        """Of blocks the mask id is left out, as in decoding; of causal rows nothing is, as in llama-perplexity."""
        logits = model.logits(piece.tokens, block_start=piece.block_start, lora=kind.lora, first=piece.first)
        logits, targets = logits[piece.rows], piece.targets
        if kind.mask_ratio is not None:
            logits, targets = without_token(logits, targets, self._plan.mask_token)
        return score(logits, targets, base)

    # --- Answers ---------------------------------------------------------------------------------------------------

    def _answers(self, facts: FileFacts, model: LazyModel, owner: str, setting: Setting) -> list[Answer]:
        """To all prompts."""
        found = []
        key = f"{key_of(setting)}, {setting.block_length} a block, {self._max_tokens} tokens"
        for number, prompt in enumerate(self._prompts):
            known = self._store.answer(owner, key, prompt_digest(prompt))
            if known is not None:
                answer = cast(Answer, known)
            else:
                answer = ask(model(), prompt, setting.options(self._max_tokens, GREEDY, ignore_eos=False))
                self._store.put_answer(owner, key, prompt_digest(prompt), answer)
            found.append(answer)
            self._progress(f"{facts.path.name}: answers, {key_of(setting)}", number + 1, len(self._prompts))
        return found

    def _figures(
        self, setting: Setting, answers: Sequence[Answer], plain: Mapping[str, Sequence[Answer]], owner: str
    ) -> AnswerFigures:
        base = None if owner == BASE else self._base_answers[key_of(setting)]
        return answer_figures(setting.mode, answers, plain[modes.AR], base)
