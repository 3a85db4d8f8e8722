"""One request from engine events to text: `steps` is what streaming, the result dictionaries and the CLI stand on."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytrimode.engine_loop import EngineLoop
from pytrimode.generation_options import ResolvedOptions
from pytrimode.results import (
    ChatCompletionChunk,
    Completion,
    FinishReason,
    Measured,
    ResultWriter,
    timings_of,
    usage_of,
)
from pytrimode.text_stream import TextStream

if TYPE_CHECKING:
    from pytrimode._native import Event, Model, Stats


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
    finish_reason: FinishReason | None
    """None while more steps follow."""
    measured: Measured | None
    """`usage` and `timings`, on the last step."""


class _Text:
    """The text of one request, token by token, so that the result does not depend on how many tokens a step emits."""

    def __init__(self, model: Model, options: ResolvedOptions, visible: Collection[int]) -> None:
        self._model = model
        self._visible = visible
        self._stream = TextStream(options.stop)
        self._skip_eog = not options.ignore_eos
        self.n_tokens = 0

    @property
    def stopped(self) -> bool:
        return self._stream.stopped

    def take(self, tokens: Sequence[int]) -> tuple[list[int], str]:
        """The tokens up to an end of generation or a stop string, and the text that became final."""
        kept: list[int] = []
        text = ""
        for token in tokens:
            if self._skip_eog and self._model.is_eog(token):
                break
            kept.append(token)
            text += self._stream.feed(self._model.token_to_piece(token, token in self._visible))
            if self.stopped:
                break
        self.n_tokens += len(kept)
        return kept, text

    def finish(self) -> str:
        return self._stream.finish()


def steps(
    loop: EngineLoop, model: Model, tokens: Sequence[int], options: ResolvedOptions, visible: Collection[int] = ()
) -> Generator[Step, None, None]:
    """Run a request. Closing the generator, or an exception in it, cancels the request.

    `visible`: special tokens that are part of the text.
    """
    text = _Text(model, options, visible)
    with contextlib.closing(loop.run(tokens, options)) as events:
        for event, stats in events:
            step = _step(event, stats, text)
            yield step
            if step.finish_reason:
                return


def _step(event: Event, stats: Stats, text: _Text) -> Step:
    kept, new = text.take(event.tokens)
    reason: FinishReason | None = None
    if text.stopped:
        reason = "stop"
    elif event.finish_reason:
        if event.finish_reason == "cancelled":
            raise RuntimeError("the request was cancelled")
        new += text.finish()
        # The last characters can complete a stop string only here, when the decoder gives up on a broken one.
        reason = "stop" if text.stopped or event.finish_reason == "stop" else "length"
    measured: Measured | None = None
    if reason:
        measured = {"usage": usage_of(stats, text.n_tokens), "timings": timings_of(stats)}
    return Step(new, kept, event.block, event.confidence, reason, measured)


def join(run: Iterator[Step]) -> tuple[str, FinishReason, Measured]:
    """Run to the end: the whole text, why it ended, and what it cost."""
    parts = []
    for step in run:
        parts.append(step.text)
        if step.finish_reason and step.measured:
            return "".join(parts), step.finish_reason, step.measured
    raise RuntimeError("the engine ended a request without a finish reason")


def completion_chunks(run: Generator[Step, None, None], writer: ResultWriter, echo: str) -> Iterator[Completion]:
    """The stream of `create_completion`: a chunk per piece of text, then one with finish reason and measurements."""
    with contextlib.closing(run):
        if echo:
            yield writer.completion(echo, None)
        for step in run:
            if step.text:
                yield writer.completion(step.text, None)
            if step.finish_reason:
                yield writer.completion("", step.finish_reason, step.measured)


def chat_chunks(run: Generator[Step, None, None], writer: ResultWriter) -> Iterator[ChatCompletionChunk]:
    """The stream of `create_chat_completion`: first the role, then as `completion_chunks`."""
    with contextlib.closing(run):
        yield writer.chat_chunk({"role": "assistant"})
        for step in run:
            if step.text:
                yield writer.chat_chunk({"content": step.text})
            if step.finish_reason:
                yield writer.chat_chunk({}, step.finish_reason, step.measured)
