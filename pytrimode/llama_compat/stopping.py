"""`stopping_criteria`: functions that end a generation, asked before each token of the answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pytrimode._native import Event, PositionLogprobs, Stats
    from pytrimode.answers.job import AnyJob
    from pytrimode.answers.step import Step
    from pytrimode.trimode import TriMode

Criterion = Callable[[NDArray[np.intc], Any], Any]
"""Takes the token ids so far, prompt included, and the logits of the next token; true ends the generation."""


class StoppingCriteriaList(list[Criterion]):
    """Ends a generation when one of its functions says so."""

    def __call__(self, input_ids: NDArray[np.intc], logits: Any) -> bool:
        """Tell whether one of the functions ends it."""
        return any(bool(criterion(input_ids, logits)) for criterion in self)


class LogitsProcessorList(list[Callable[..., Any]]):
    """Functions that change logits, one after the other.

    `Llama` takes an empty one only: use `logit_bias`, `grammar` or the penalties.
    """

    def __call__(self, input_ids: NDArray[np.intc], scores: NDArray[np.single]) -> NDArray[np.single]:
        """Return the logits that are left when all functions have had them."""
        for processor in self:
            scores = processor(input_ids, scores)
        return scores


class Logits:
    """The logits of the next token, float32 [n_vocab]: computed when they are looked at, by a pass of its own."""

    def __init__(self, model: TriMode, tokens: Sequence[int]) -> None:
        self._model = model
        self._tokens = tokens
        self._row: NDArray[np.float32] | None = None
        self.shape = (model.n_vocab,)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self._row is None:
            self._row = self._model.logits(self._tokens, first=len(self._tokens) - 1)[0]
        return self._row.astype(dtype) if dtype is not None else self._row.copy()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)


class Stopper:
    """Asks the criteria of one request."""

    def __init__(self, model: TriMode, prompt: Sequence[int], criteria: Criterion) -> None:
        self._model = model
        self._tokens = list(prompt)
        self._criteria = criteria

    def accepts(self, token: int) -> bool:
        """Tell whether the answer goes on with this token."""
        tokens = self._tokens.copy()
        if self._criteria(np.array(tokens, np.intc), Logits(self._model, tokens)):
            return False
        self._tokens.append(token)
        return True


@dataclass
class _Stopped:
    """An event of the engine, cut off in front of a token."""

    tokens: list[int]
    logprobs: list[PositionLogprobs]
    stats: Stats
    finish_reason: str = "stop"
    error: str = ""
    block: list[int] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)


def steps(model: TriMode, job: AnyJob, criteria: Criterion) -> Generator[Step, None, None]:
    """Yield the steps of a job up to where the criteria end it. Closing the generator cancels the request."""
    stopper = Stopper(model, job.tokens, criteria)
    with contextlib.closing(model.run_many([(job.tokens, job.options)], 1)) as events:
        for _, event in events:
            n = next((i for i, token in enumerate(event.tokens) if not stopper.accepts(token)), None)
            if n is not None:
                event = cast("Event", _Stopped(event.tokens[:n], event.logprobs[:n], event.stats))
            step = job.maker.step(event)
            yield step
            if step.ending:
                return


def run(model: TriMode, job: AnyJob, criteria: Criterion) -> Any:
    """Run a job that criteria may end, and return its whole result."""
    with contextlib.closing(steps(model, job, criteria)) as all_steps:
        return job.finish(all_steps)


def stream(model: TriMode, job: AnyJob, criteria: Criterion) -> Iterator[Any]:
    """Yield the chunks of a job that criteria may end. Closing the generator cancels the request."""
    with contextlib.closing(steps(model, job, criteria)) as all_steps:
        yield from job.answer.opening()
        for step in all_steps:
            yield from job.answer.chunks(step)
