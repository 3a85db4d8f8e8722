"""A completion on its way out: text, token ids, and probabilities as llama-server has them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pytrimode.answers.answer import Answer, Reading
from pytrimode.answers.results import Ending, ResultWriter
from pytrimode.answers.step import Step

if TYPE_CHECKING:
    from pytrimode._native import PositionLogprobs

Native = dict[str, Any]


class NativeAnswer(Answer[Native, Native]):
    """One completion; what a form adds is the same for all chunks."""

    def __init__(self, writer: ResultWriter, reading: Reading) -> None:
        super().__init__(writer, reading)
        self._n_tokens = 0
        self._tokens: list[int] = []

    def opening(self) -> list[Native]:
        """Return nothing: the first chunk has text."""
        return []

    def empty(self) -> Native:
        """Return a chunk that adds nothing."""
        return self._chunk("", [], [])

    def keep(self, step: Step) -> None:
        """Keep a step for `whole`, with its tokens."""
        self._tokens += step.tokens
        super().keep(step)

    def _adding(self, step: Step) -> Native | None:
        self._n_tokens += len(step.tokens)
        return self._chunk(step.text, step.tokens, step.logprobs) if step.text or step.tokens else None

    def _closing(self, ending: Ending) -> list[Native]:
        return [self._chunk("", [], []) | _ended(ending)]

    def _whole(self, text: str, logprobs: list[PositionLogprobs], ending: Ending) -> Native:
        return self._chunk(text, self._tokens, logprobs) | _ended(ending)

    def _chunk(self, text: str, tokens: list[int], logprobs: list[PositionLogprobs]) -> Native:
        chunk: Native = {"index": self._writer.index, "content": text, "tokens": tokens, "stop": False}
        chunk["tokens_predicted"] = self._n_tokens
        if self._reading.logprobs:
            entries = self._reading.logprobs.chat(logprobs)["content"]
            chunk["completion_probabilities"] = [
                {
                    "id": position.chosen.token,
                    **entry,
                    "top_logprobs": [
                        {"id": top.token, **shown}
                        for top, shown in zip(position.top, entry["top_logprobs"], strict=True)
                    ],
                }
                for position, entry in zip(logprobs, entries, strict=True)
            ]
        return chunk


def _ended(ending: Ending) -> Native:
    details = ending.details
    word = details.get("stop")
    usage = ending.measured["usage"]
    return {
        "stop": True,
        "stop_type": "limit" if details["type"] == "length" else "eos" if word is None else "word",
        "stopping_word": word or "",
        "finish_details": details,
        "tokens_predicted": usage["completion_tokens"],
        "tokens_evaluated": usage["prompt_tokens"],
        "tokens_cached": usage["prompt_tokens_details"]["cached_tokens"],
        "timings": ending.measured["timings"],
    }


def as_probabilities(entries: list[Native]) -> list[Native]:
    """Return logarithms as probabilities, for `post_sampling_probs`."""
    return [
        {**_prob(entry), "top_probs": [_prob(top) for top in entry["top_logprobs"]]} for entry in entries
    ]  # fmt: skip


def _prob(entry: Native) -> Native:
    rest = {name: value for name, value in entry.items() if name not in ("logprob", "top_logprobs")}
    return {**rest, "prob": math.exp(entry["logprob"])}
