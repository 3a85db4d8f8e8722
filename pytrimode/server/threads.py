"""Threads for work on what clients send: with stacks that their input cannot overflow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")

_BYTES_PER_CHAR = 1 << 10
"""libllama's pre-tokenizer (std::regex) and its grammar parser recurse over their input. With the usual stack of 8 MiB
a run of 28,000 letters, or 20,000 opening parentheses, ends the process (measured with gcc on x86-64): 300 and 420
bytes each. Stacks are reserved, not used."""

CHARS_HELD = 1 << 16
"""Characters that may be tokenized, or parsed as a grammar, on a thread of `deep_pool`."""


def deep_pool(n_threads: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads are there already, each with a stack for CHARS_HELD."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
    before = threading.stack_size(CHARS_HELD * _BYTES_PER_CHAR)
    try:
        # A pool starts a thread only when none is idle: all of them must be there at once to pass the barrier.
        barrier = threading.Barrier(n_threads)
        wait([pool.submit(barrier.wait) for _ in range(n_threads)])
    finally:
        threading.stack_size(before)
    return pool


def call_deep(n_chars: int, function: Callable[[], T]) -> T:
    """Call a function that recurses over `n_chars` characters; to be used on a thread of `deep_pool`.

    Raises ValueError when the machine has no address space for such a stack.
    """
    if n_chars <= CHARS_HELD:
        return function()
    result: Future[T] = Future()

    def call() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=call, name="long text", daemon=True)
    try:
        before = threading.stack_size(n_chars * _BYTES_PER_CHAR)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"a text of {n_chars} characters is too long for this machine") from error
    return result.result()
