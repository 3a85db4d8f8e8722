"""Threads for work on what clients send: with stacks that their input cannot overflow."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait

from pytrimode.formats.deep_stack import BYTES_PER_CHAR

CHARS_HELD = 1 << 16
"""Characters that may be tokenized, or parsed as a grammar, on a thread of `deep_pool`."""


def deep_pool(n_threads: int, name: str) -> ThreadPoolExecutor:
    """Return a pool whose threads are there already, each with a stack for CHARS_HELD."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
    before = threading.stack_size(CHARS_HELD * BYTES_PER_CHAR)
    try:
        # A pool starts a thread only when none is idle: all of them must be there at once to pass the barrier.
        barrier = threading.Barrier(n_threads)
        wait([pool.submit(barrier.wait) for _ in range(n_threads)])
    finally:
        threading.stack_size(before)
    return pool
