"""A request that was checked and has not begun."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

from pytrimode.answers.answer import Answer, Chunk, Result
from pytrimode.answers.prompt_logprobs import prompt_positions
from pytrimode.answers.step import Step, StepMaker, steps
from pytrimode.engine_loop import Cancellation, EngineLoop
from pytrimode.options.generation_options import ResolvedOptions


@dataclass(frozen=True)
class Job(Generic[Result, Chunk]):
    """What the engine is given, and what makes an answer of what it gives back; for one run."""

    tokens: Sequence[int]
    options: ResolvedOptions
    maker: StepMaker
    answer: Answer[Result, Chunk]
    prompt_top: int | None = None
    """The answer begins with the log-probabilities of the prompt, so many of the likeliest tokens at each position."""

    @property
    def scores_prompt(self) -> bool:
        """Whether there is something to `prepare`."""
        return self.prompt_top is not None

    def in_scope(self, cache_scope: int) -> Job[Result, Chunk]:
        """Return the job as one that shares what the cache holds only with those of the same scope."""
        engine = self.options.engine.replace(cache_scope=cache_scope)
        return replace(self, options=replace(self.options, engine=engine))

    def prepare(self, loop: EngineLoop, cancellation: Cancellation | None = None) -> None:
        """Compute what the answer begins with. It takes as long as reading the prompt.

        Raises RequestCancelledError once `cancellation` is called.
        """
        if self.prompt_top is not None:
            asked = self.options.engine
            self.answer.prompt(prompt_positions(loop, self.tokens, self.prompt_top, asked, cancellation))

    def run(self, loop: EngineLoop) -> Result:
        """Run it to its end: without Python between its passes."""
        self.prepare(loop)
        return self.finish([self.maker.step(loop.complete(self.tokens, self.options))])

    def finish(self, run: Iterable[Step]) -> Result:
        """Return the result of all its steps."""
        for step in run:
            self.answer.keep(step)
        return self.answer.whole()

    def stream(self, loop: EngineLoop) -> Iterator[Chunk]:
        """Run it chunk by chunk. Closing the generator cancels it."""
        self.prepare(loop)
        with contextlib.closing(steps(loop, self.tokens, self.options, self.maker)) as run:
            yield from self.answer.opening()
            for step in run:
                yield from self.answer.chunks(step)


AnyJob = Job[Any, Any]
