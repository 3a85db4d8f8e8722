"""The same file in stock llama-cpp-python, in a process of its own: two engines must not share one llama.cpp."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from pytrimode import _native
from pytrimode.bench.samples import Sample


class Stock:
    """A child process that holds the model and waits, without using the processor, until it is asked.

    Raises RuntimeError when llama-cpp-python cannot load the file.
    """

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        """`options`: keyword arguments of `llama_cpp.Llama`."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, path, options), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def __enter__(self) -> Stock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.terminate()

    def run(self, prompts: Sequence[Sequence[int]], max_tokens: int, ignore_eos: bool) -> Sample:
        """Greedy, one prompt after the other."""
        sample = Sample()
        for prompt in prompts:
            self._pipe.send((list(prompt), max_tokens, ignore_eos))
            n_tokens, prompt_seconds, seconds = self._answer()
            sample.requests += 1
            sample.tokens += n_tokens - 1
            sample.passes += n_tokens - 1
            sample.seconds += seconds
            sample.pass_seconds += seconds
            sample.prompt_tokens += len(prompt)
            sample.prompt_seconds += prompt_seconds
        sample.compute_seconds = sample.pass_seconds  # it does not tell
        return sample

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the process that runs llama-cpp-python has ended") from None
        if isinstance(answer, str):
            raise RuntimeError(f"llama-cpp-python: {answer}")
        return answer


def _serve(pipe: Connection, path: str, options: dict[str, Any]) -> None:
    os.setpgrp()  # Ctrl-C is for the parent
    try:
        from llama_cpp import Llama
    except ModuleNotFoundError:  # a wheel of pytrimode has its own llama.cpp
        pipe.send(f"not installed: pip install llama-cpp-python=={_native.LLAMA_CPP_PYTHON_VERSION}")
        return
    try:
        llama = Llama(path, verbose=False, **options)
    except Exception as error:
        pipe.send(str(error) or type(error).__name__)
        return
    pipe.send(None)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send(_generate(llama, *pipe.recv()))


def _generate(llama: Any, prompt: list[int], max_tokens: int, ignore_eos: bool) -> tuple[int, float, float]:
    """Tokens, seconds until the first of them, and from there to the last."""
    start = first = last = time.perf_counter()
    n_tokens = 0
    for token in llama.generate(prompt, top_k=1, temp=0.0, repeat_penalty=1.0):
        last = time.perf_counter()
        first = last if n_tokens == 0 else first
        n_tokens += 1
        if n_tokens == max_tokens or (token == llama.token_eos() and not ignore_eos):
            break
    return n_tokens, first - start, last - first
