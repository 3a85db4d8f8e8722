"""AsyncTriMode: a TriMode for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from pytrimode.answers.completion import Chunk, Job, Result, Step, StepMaker
from pytrimode.engine_loop import Cancellation
from pytrimode.options.generation_options import GenerationOptions, ResolvedOptions
from pytrimode.options.option import switch
from pytrimode.trimode import TriMode

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Unpack

    from pytrimode._native import Event
    from pytrimode.answers.results import ChatCompletion, ChatCompletionChunk, Completion
    from pytrimode.formats.chat_template import Message
    from pytrimode.options.arguments import LoadArguments
    from pytrimode.options.method_arguments import ChatArguments, CompletionArguments
    from pytrimode.vision.prompt import Pictures


class AsyncTriMode:
    """Requests as coroutines and `async for`, over a loaded model, whose `n_parallel` says how many run side by side.

    Arguments and results are those of `TriMode`'s methods of the same names. A request whose task is cancelled, or
    whose stream is closed, ends with the current pass. QueueFullError comes when a request begins: from `await`, of a
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
        job = await asyncio.to_thread(self.model._completion_job, prompt, suffix, **options)
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
        job = await asyncio.to_thread(self.model._chat_job, messages, **options)
        return self._stream(job) if streaming else await self._run(job)

    def steps(
        self, tokens: Sequence[int], options: GenerationOptions, *, pictures: Pictures | None = None
    ) -> AsyncGenerator[Step, None]:
        """As `TriMode.steps`."""
        resolved = self.model.resolve(options, len(tokens), pictures)
        return self._steps(tokens, resolved, self.model._step_maker(resolved))

    async def _run(self, job: Job[Result, Chunk]) -> Result:
        async with contextlib.aclosing(self._steps(job.tokens, job.options, job.maker)) as steps:
            return job.finish([step async for step in steps])

    async def _stream(self, job: Job[Result, Chunk]) -> AsyncIterator[Chunk]:
        async with contextlib.aclosing(self._steps(job.tokens, job.options, job.maker)) as steps:
            for chunk in job.chunks.first():
                yield chunk
            async for step in steps:
                for chunk in job.chunks.of(step):
                    yield chunk

    async def _images(self, options: ResolvedOptions) -> dict[str, Any]:
        """Encode the pictures on another thread; a task that is cancelled ends that."""
        cancellation = Cancellation()
        try:
            return await asyncio.to_thread(self.model._loop.images, options, cancellation)
        except asyncio.CancelledError:
            cancellation()
            raise

    async def _steps(
        self, tokens: Sequence[int], options: ResolvedOptions, maker: StepMaker
    ) -> AsyncGenerator[Step, None]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | BaseException] = asyncio.Queue()

        def deliver(event: Event | BaseException) -> None:
            with contextlib.suppress(RuntimeError):  # a loop that is closed has no reader
                loop.call_soon_threadsafe(events.put_nowait, event)

        images = await self._images(options) if options.pictures else {}
        request = self.model._loop.subscribe(tokens, options, deliver, images)
        try:
            while True:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                step = maker.step(event)
                yield step
                if step.ending:
                    return
        finally:
            self.model._loop.release(request)
