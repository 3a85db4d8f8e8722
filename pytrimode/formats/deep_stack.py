"""Calls of libllama functions that recurse over their input, on stacks that it cannot overflow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

BYTES_PER_CHAR = 1 << 10
"""libllama's pre-tokenizer (std::regex) and its grammar parser recurse over their input. With the usual stack of 8 MiB
a run of 28,000 letters, or 20,000 opening parentheses, ends the process (measured with gcc on x86-64): 300 and 420
bytes each. Stacks are reserved, not used."""

CHARS_ANYWHERE = 1 << 12
"""Characters that fit on any thread's stack, of which 4 MiB may be used."""


def call_deep(n_chars: int, function: Callable[[], T], chars_held: int = CHARS_ANYWHERE) -> T:
    """Call a function that recurses over `n_chars` characters; on this thread if its stack holds `chars_held` of them.

    Raises ValueError when the machine has no address space for such a stack.
    """
    if n_chars <= chars_held:
        return function()
    result: Future[T] = Future()

    def call() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=call, name="long text", daemon=True)
    try:
        before = threading.stack_size(n_chars * BYTES_PER_CHAR)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"a text of {n_chars} characters is too long for this machine") from error
    return result.result()
