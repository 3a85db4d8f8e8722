"""AsyncTriMode: a TriMode for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from pytrimode.answers.answer import Chunk, Result
from pytrimode.answers.job import AnyJob, Job
from pytrimode.answers.results import ResultWriter
from pytrimode.answers.step import Step
from pytrimode.engine_loop import Cancellation
from pytrimode.jobs import Wanted
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.methods import check_names
from pytrimode.options.option import switch
from pytrimode.trimode import TriMode
from pytrimode.vision.prompt import Prompt

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Unpack

    from pytrimode.answers.decision import Decision
    from pytrimode.answers.filling import Filled, Template
    from pytrimode.answers.results import ChatCompletion, ChatCompletionChunk, Completion
    from pytrimode.formats.chat_template import Message
    from pytrimode.options.arguments import LoadArguments
    from pytrimode.options.method_arguments import ChatArguments, CompletionArguments
    from pytrimode.vision.prompt import Pictures


class AsyncTriMode:
    """Requests as coroutines and `async for`, over a loaded model, whose `n_parallel` says how many run side by side.

    Arguments and results are those of `TriMode`'s methods of the same names. A request whose task is cancelled, or
    whose stream is closed, ends with the current pass; one whose stream is read slowly pauses when it is 64 passes
    ahead. QueueFullError comes when a request begins: from `await`, of a
    stream from its first `async for`.

        async with await AsyncTriMode.load("nld-8b.gguf", n_parallel=8) as model:
            async for chunk in await model.create_completion("def fib(n):", stream=True):
                print(chunk["choices"][0]["text"], end="")
    """

    def __init__(self, model: TriMode) -> None:
        self.model = model

    @classmethod
    async def load(cls, path: str | Path, **options: Unpack[LoadArguments]) -> AsyncTriMode:
        """Load a model without blocking the event loop; arguments and errors as `TriMode`'s."""
        return cls(await asyncio.to_thread(TriMode, path, **options))

    @classmethod
    async def from_pretrained(
        cls, repo: str, type: str | None = None, **options: Unpack[LoadArguments]
    ) -> AsyncTriMode:
        """As `TriMode.from_pretrained`, without blocking the event loop."""
        return cls(await asyncio.to_thread(TriMode.from_pretrained, repo, type, **options))

    async def __aenter__(self) -> AsyncTriMode:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """As `TriMode.close`."""
        self.model.close()

    @overload
    async def create_completion(
        self,
        prompt: str | bytes | Sequence[int],
        suffix: str | bytes | Sequence[int] | None = None,
        *,
        stream: Literal[False] | None = None,
        **options: Unpack[CompletionArguments],
    ) -> Completion: ...

    @overload
    async def create_completion(
        self,
        prompt: str | bytes | Sequence[int],
        suffix: str | bytes | Sequence[int] | None = None,
        *,
        stream: Literal[True],
        **options: Unpack[CompletionArguments],
    ) -> AsyncIterator[Completion]: ...

    @overload
    async def create_completion(
        self,
        prompt: str | bytes | Sequence[int],
        suffix: str | bytes | Sequence[int] | None = None,
        *,
        stream: bool | None,
        **options: Unpack[CompletionArguments],
    ) -> Completion | AsyncIterator[Completion]: ...

    async def create_completion(
        self,
        prompt: str | bytes | Sequence[int],
        suffix: str | bytes | Sequence[int] | None = None,
        *,
        stream: bool | None = None,
        **options: Any,
    ) -> Completion | AsyncIterator[Completion]:
        """As `TriMode.create_completion`; with `stream` an asynchronous iterator."""
        streaming = switch("stream", stream)
        check_names(TriMode.create_completion, options)
        job = await asyncio.to_thread(self.model.jobs.asked_completion, prompt, suffix, **options)
        return self._stream(job) if streaming else await self._run(job)

    @overload
    async def create_chat_completion(
        self, messages: Sequence[Message], *, stream: Literal[False] | None = None, **options: Unpack[ChatArguments]
    ) -> ChatCompletion: ...

    @overload
    async def create_chat_completion(
        self, messages: Sequence[Message], *, stream: Literal[True], **options: Unpack[ChatArguments]
    ) -> AsyncIterator[ChatCompletionChunk]: ...

    @overload
    async def create_chat_completion(
        self, messages: Sequence[Message], *, stream: bool | None, **options: Unpack[ChatArguments]
    ) -> ChatCompletion | AsyncIterator[ChatCompletionChunk]: ...

    async def create_chat_completion(
        self, messages: Sequence[Message], *, stream: bool | None = None, **options: Any
    ) -> ChatCompletion | AsyncIterator[ChatCompletionChunk]:
        """As `TriMode.create_chat_completion`; with `stream` an asynchronous iterator."""
        streaming = switch("stream", stream)
        check_names(TriMode.create_chat_completion, options)
        job = await asyncio.to_thread(self.model.jobs.asked_chat, messages, **options)
        return self._stream(job) if streaming else await self._run(job)

    async def decide(
        self,
        prompt: str | bytes | Sequence[int] | Sequence[Message],
        choices: Sequence[str],
        *,
        masks: int | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Decision:
        """As `TriMode.decide`, without blocking the event loop; a task that is cancelled ends it with its pass."""
        ask = partial(self.model.jobs.asked_decision, masks=masks, chat_template_kwargs=chat_template_kwargs)
        question = await asyncio.to_thread(ask, prompt, choices)
        cancellation = Cancellation()
        try:
            return await asyncio.to_thread(self.model.run_decision, question, cancellation=cancellation)
        finally:
            cancellation()

    async def fill(
        self,
        template: Template,
        messages: Sequence[Message] | None = None,
        *,
        temperature: float = 0.0,
        seed: int | None = None,
        threshold: float | None = None,
    ) -> Filled:
        """As `TriMode.fill`, without blocking the event loop; a task that is cancelled ends it with its pass."""
        ask = partial(self.model.jobs.asked_filling, temperature=temperature, seed=seed, threshold=threshold)
        filling = await asyncio.to_thread(ask, template, messages)
        cancellation = Cancellation()
        try:
            return await asyncio.to_thread(self.model.run_filling, filling, cancellation)
        finally:
            cancellation()

    def steps(
        self, tokens: Sequence[int], options: GenerationOptions, *, pictures: Pictures | None = None
    ) -> AsyncGenerator[Step, None]:
        """As `TriMode.steps`."""
        prompt = Prompt(list(tokens), pictures)
        return self._steps(self.model.jobs.completion(prompt, options, Wanted(ResultWriter(self.model.model_path))))

    async def _steps(self, job: AnyJob) -> AsyncGenerator[Step, None]:
        async with self.model.run_async([job]) as run:
            while pieces := await run.pieces():
                for piece in pieces:
                    yield piece.step

    async def _run(self, job: Job[Result, Chunk]) -> Result:
        async with self.model.run_async([job]) as run:
            while pieces := await run.pieces():
                for piece in pieces:
                    job.answer.keep(piece.step)
        return job.answer.whole()

    async def _stream(self, job: Job[Result, Chunk]) -> AsyncIterator[Chunk]:
        async with self.model.run_async([job]) as run:
            for chunk in job.answer.opening():
                yield chunk
            while pieces := await run.pieces():
                for piece in pieces:
                    for chunk in job.answer.chunks(piece.step):
                        yield chunk
