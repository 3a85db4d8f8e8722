"""One request from engine events to text: `steps` is what streaming, the results and the command line stand on."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytrimode.answers.results import Ending, FinishDetails, timings_of, usage_of
from pytrimode.engine_loop import Cancellation, EngineLoop, RequestCancelledError
from pytrimode.formats.text_stream import TextStream
from pytrimode.options.generation_options import ResolvedOptions

if TYPE_CHECKING:
    from pytrimode._native import Event, Model, PositionLogprobs
    from pytrimode.vision.prompt import Pictures


@dataclass(frozen=True)
class Step:
    """What one forward pass brought for a request."""

    text: str
    """Text that became final; whole characters, nothing of a stop string."""
    tokens: list[int]
    """Tokens that became final and make up the text so far; without an end-of-generation token."""
    block: list[int]
    """Mode diffusion: the block being denoised, mask ids where nothing is decided yet; else empty."""
    confidence: list[float]
    """Probability of each decided token of `block`, 0 where masked."""
    logprobs: list[PositionLogprobs]
    """Of each of `tokens`, if the request wants them; else empty."""
    ending: Ending | None = None
    """On the last step; None while more follow."""
    trimmed: int | None = None
    """At the end of a loop: how many characters of the whole text are left without its repetitions."""
    draft: list[int] = field(default_factory=list)
    """Mode self-spec: what this pass proposed, for the next one to verify; else empty."""


class _Text:
    """The text of one request, token by token, so that the result does not depend on how many tokens a step emits."""

    def __init__(self, model: Model, options: ResolvedOptions, visible: Collection[int]) -> None:
        self._model = model
        self._visible = visible
        self._stream = TextStream(options.stop)
        self._skip_eog = not options.ignore_eos
        self._stop_token_ids = options.stop_token_ids
        self._min_tokens = options.min_tokens
        self._ends = [0]  # characters given out after so many tokens

    @property
    def n_tokens(self) -> int:
        return len(self._ends) - 1

    @property
    def stop_string(self) -> str | None:
        return self._stream.matched

    def take(self, tokens: Sequence[int]) -> tuple[list[int], str]:
        """Return the tokens up to an end of generation or a stop string, and the text that became final."""
        kept: list[int] = []
        text = ""
        for token in tokens:
            if token in self._stop_token_ids or (self._skip_eog and self._model.is_eog(token)):
                break
            kept.append(token)
            may_end = self.n_tokens >= self._min_tokens
            new = self._stream.feed(self._model.token_to_piece(token, token in self._visible), may_stop=may_end)
            text += new
            self._ends.append(self._ends[-1] + len(new))
            if self._stream.stopped:
                break
        return kept, text

    def finish(self) -> str:
        return self._stream.finish()

    def length_without(self, n_last: int) -> int:
        """Characters given out before the last tokens."""
        return self._ends[max(0, self.n_tokens - n_last)]


class StepMaker:
    """Makes the steps of one request from its events.

    `visible`: special tokens that are part of the text.
    """

    def __init__(self, model: Model, options: ResolvedOptions, visible: Collection[int] = ()) -> None:
        self._text = _Text(model, options, visible)
        self._pictures = options.pictures

    def step(self, event: Event) -> Step:
        """Return the step of an event. Raises RuntimeError for a request that was cancelled."""
        return _step(event, self._text, self._pictures)


def steps(
    loop: EngineLoop,
    tokens: Sequence[int],
    options: ResolvedOptions,
    maker: StepMaker,
    cancellation: Cancellation | None = None,
) -> Generator[Step, None, None]:
    """Run a request. Closing the generator, or an exception in it, cancels the request."""
    with contextlib.closing(loop.run(tokens, options, cancellation)) as events:
        for event in events:
            step = maker.step(event)
            yield step
            if step.ending:
                return


def _step(event: Event, text: _Text, pictures: Pictures | None) -> Step:
    stats = event.stats
    kept, new = text.take(event.tokens)
    logprobs = event.logprobs[: len(kept)]
    if text.stop_string is None and not event.finish_reason:
        return Step(new, kept, event.block, event.confidence, logprobs, draft=event.draft)
    if event.finish_reason == "cancelled":
        raise RequestCancelledError
    # The last characters can complete a stop string only here, when the decoder gives up on a broken one.
    new += text.finish()
    ending = Ending(
        _details(event, text.stop_string),
        {"usage": usage_of(stats, text.n_tokens, pictures), "timings": timings_of(stats, pictures)},
    )
    trimmed = text.length_without(stats.loop_repeated) if ending.details["type"] == "loop" else None
    return Step(new, kept, event.block, event.confidence, logprobs, ending, trimmed)


def _details(event: Event, stop_string: str | None) -> FinishDetails:
    if stop_string is not None or event.finish_reason == "stop":
        return {"type": "stop", "stop": stop_string}
    if event.finish_reason == "loop":
        return {"type": "loop", "period": event.stats.loop_period, "repeated_tokens": event.stats.loop_repeated}
    return {"type": "length"}
