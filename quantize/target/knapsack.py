"""One choice for each item, so that the sizes stay within a budget and the sum of losses is the smallest.

The multiple-choice knapsack problem by dynamic programming over Pareto-optimal partial sums (Nemhauser and Ullmann,
"Discrete dynamic programming and capital allocation", 1969). Sizes are never rounded; where more sums are alive than
memory should hold, those of nearly the same size are thinned out, which costs at most a sliver of the budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_STATES = 1 << 12
"""Partial sums that are kept: the budget is met to about one part in as many."""
Choices = Sequence[tuple[int, float]]
"""(size, loss) of each choice."""


def best_choices(items: Sequence[Choices], budget: int) -> list[int] | None:
    """Return the index of the choice for each item; None when even the smallest choices exceed the budget.

    The same input gives the same result; of equal losses the smaller size wins.
    """
    # The largest first: the small ones then fill up what is left.
    order = sorted(range(len(items)), key=lambda i: (-max(size for size, _ in items[i]), i))
    smallest = [min(size for size, _ in items[i]) for i in order]
    needed = sum(smallest)
    if needed > budget:
        return None
    sizes, losses = np.zeros(1, np.int64), np.zeros(1)
    steps: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for i, least in zip(order, smallest, strict=True):
        needed -= least
        sizes, losses, *step = _extend(sizes, losses, items[i], budget - needed)
        steps.append((step[0], step[1]))
    at = int(np.argmin(losses))
    found = [0] * len(items)
    for i, (parents, choices) in zip(reversed(order), reversed(steps), strict=True):
        found[i] = int(choices[at])
        at = int(parents[at])
    return found


def _extend(
    sizes: NDArray[np.int64], losses: NDArray[np.float64], choices: Choices, budget: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the sums with one more item: sizes, losses, and of each the sum and the choice it was made of."""
    choice_sizes = np.array([size for size, _ in choices], np.int64)
    choice_losses = np.array([loss for _, loss in choices])
    all_sizes = (sizes[:, None] + choice_sizes).ravel()
    all_losses = (losses[:, None] + choice_losses).ravel()
    kept = np.flatnonzero(all_sizes <= budget)
    kept = kept[np.lexsort((all_losses[kept], all_sizes[kept]))]
    # Of a size or less, only a smaller loss than any before is of use.
    before = np.minimum.accumulate(np.concatenate(([np.inf], all_losses[kept][:-1])))
    kept = kept[all_losses[kept] < before]
    kept = _thinned(kept, all_sizes[kept])
    return all_sizes[kept], all_losses[kept], kept // len(choices), kept % len(choices)


def _thinned(kept: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most MAX_STATES sums: the smallest, and the largest, which has the least loss, of each range of sizes."""
    if kept.size <= MAX_STATES:
        return kept
    ranges = (sizes - sizes[0]) * (MAX_STATES - 2) // (sizes[-1] - sizes[0])
    last = np.append(ranges[1:] != ranges[:-1], True)
    last[0] = True
    thinned: NDArray[np.int64] = kept[last]
    return thinned
