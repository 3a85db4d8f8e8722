"""A limit on the time of an await that costs little."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Return the result of `work`, as `asyncio.wait_for` without a task of its own: there is one for every body and
    token.

    Raises TimeoutError.
    """
    task = asyncio.current_task()
    late = False

    def give_up() -> None:
        nonlocal late
        late = True
        if task:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, give_up)
    try:
        return await work
    except asyncio.CancelledError:
        if not late:
            raise
        raise TimeoutError(f"not done within {seconds:g} s") from None
    finally:
        timer.cancel()
