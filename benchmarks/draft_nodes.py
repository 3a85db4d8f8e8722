"""Which drafts to verify: chains and trees of the candidates of a block's rows, and what they promise."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from benchmarks.recorded_passes import Rows

EDGES = (0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
"""Between bins of probability."""
DEPTHS = (2, 5, 9, 17)
"""Between bins of position in the block."""
PRIOR = 4.0
"""Observations that the probability itself weighs."""


class Node(NamedTuple):
    """A draft: candidate `rank` of the row at `depth`, 0 being the first, behind the node `parent` (-1: the seed)."""

    parent: int
    depth: int
    rank: int
    token: int
    value: float
    """Chance that it and all its ancestors are right."""
    strays: bool
    """It or an ancestor is not of rank 0."""


class Calibration:
    """How often a candidate is right behind ancestors that are; learnt from what verifications tell."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int, bool, int], list[float]] = defaultdict(lambda: [0.0, 0.0])

    def _key(self, rows: Rows, depth: int, rank: int, strays: bool) -> tuple[int, int, bool, int]:
        p = float(rows.chances[depth, rank])
        return bisect_right(EDGES, p), min(rank, 3), strays, bisect_right(DEPTHS, depth + 1)

    def chance(self, rows: Rows, depth: int, rank: int, strays: bool) -> float:
        """Return the estimate; `strays`: an ancestor is not of rank 0."""
        tried, right = self._seen[self._key(rows, depth, rank, strays)]
        return (PRIOR * float(rows.chances[depth, rank]) + right) / (PRIOR + tried)

    def observe(self, rows: Rows, depth: int, strays: bool, token: int) -> None:
        """Take what the target's row says behind ancestors that are right."""
        for rank, candidate in enumerate(rows.tokens[depth].tolist()):
            counts = self._seen[self._key(rows, depth, rank, strays)]
            counts[0] += 1
            counts[1] += candidate == token


def chain(rows: Rows, ends: Collection[int], calibration: Calibration) -> list[Node]:
    """Return the best token of each row, up to an end of the text."""
    nodes: list[Node] = []
    value = 1.0
    for depth, token in enumerate(rows.tokens[:, 0].tolist()):
        value *= calibration.chance(rows, depth, 0, False)
        nodes.append(Node(depth - 1, depth, 0, token, value, False))
        if token in ends:
            break
    return nodes


def best_first(
    rows: Rows, ends: Collection[int], calibration: Calibration, enough: Callable[[Sequence[Node]], bool]
) -> list[Node]:
    """Return nodes by what they promise, parents before their children, until there are `enough` or no more."""
    nodes: list[Node] = []
    n_rows, n_ranks = rows.tokens.shape
    heap: list[tuple[float, int, int, int, float, bool]] = []
    count = 0

    def push(parent: int, depth: int, rank: int, before: float, strayed: bool) -> None:
        nonlocal count
        value = before * calibration.chance(rows, depth, rank, strayed)
        heapq.heappush(heap, (-value, count, parent, rank, before, strayed))
        count += 1

    push(-1, 0, 0, 1.0, False)
    while heap and not enough(nodes):
        value, _, parent, rank, before, strayed = heapq.heappop(heap)
        depth = nodes[parent].depth + 1 if parent >= 0 else 0
        token = int(rows.tokens[depth, rank])
        nodes.append(Node(parent, depth, rank, token, -value, strayed or rank > 0))
        if rank + 1 < n_ranks:
            push(parent, depth, rank + 1, before, strayed)
        if depth + 1 < n_rows and token not in ends:
            push(len(nodes) - 1, depth + 1, 0, -value, nodes[-1].strays)
    return nodes


def beside_chain(rows: Rows, ends: Collection[int], calibration: Calibration, n: int) -> list[Node]:
    """Return the chain and the n most promising other nodes."""
    trunk = chain(rows, ends, calibration)
    found = best_first(rows, ends, calibration, lambda nodes: sum(node.strays for node in nodes) >= n)
    have = sum(not node.strays for node in found)
    index = [i for i, node in enumerate(found) if not node.strays]
    for node in trunk[have:]:
        found.append(node._replace(parent=index[-1] if index else -1))
        index.append(len(found) - 1)
    return found


def n_rows(nodes: Sequence[Node], ends: Collection[int]) -> int:
    """Rows of a verification: the seed's, and one of each node behind which something may follow."""
    return 1 + sum(node.token not in ends for node in nodes)


def worth_their_rows(nodes: Sequence[Node], ends: Collection[int], price: Callable[[int], float]) -> list[Node]:
    """Return so many of the first nodes as promise most beyond the price, in tokens, of a pass with their rows."""
    best, kept = -price(1), 0
    promised, rows = 0.0, 1
    for i, node in enumerate(nodes):
        promised += node.value
        rows += node.token not in ends
        if promised - price(rows) > best:
            best, kept = promised - price(rows), i + 1
    return list(nodes[:kept])


def accepted(nodes: Sequence[Node], rest: Sequence[int]) -> list[Node]:
    """Return the path of nodes that the text `rest` follows."""
    children = {(node.parent, node.token): i for i, node in enumerate(nodes)}
    path: list[Node] = []
    at = -1
    for token in rest:
        if (at, token) not in children:
            break
        at = children[at, token]
        path.append(nodes[at])
    return path
