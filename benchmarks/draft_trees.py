#!/usr/bin/env python3
"""What trees of drafts, shorter drafts, and a second look at a draft would bring, simulated on recorded rows.

python -m benchmarks.draft_trees                          # some minutes of CPU
python -m benchmarks.draft_trees --cache passes.pickle    # again: less

Greedy cycles are replayed: a block pass drafts, a causal pass verifies, and what is verified is

  chain        the best token of each row, as the engine does
  cut          the chain up to where a draft is not worth its row any more
  chain + n    the chain and n nodes beside it: other candidates of the rows, and what may follow them, the most
               promising first; each sees its ancestors alone
  tree         as many of the most promising nodes as are worth their rows, of the chain or not
  twice        the chain of a second block pass, in which the drafts that are sure stand already; only where an
               oracle says that it pays

What a node promises is the product of its own and its ancestors' chances of acceptance. They are calibrated on the way:
how often candidates of such a probability, rank and depth were right. A row costs what t(rows) of a machine says
(benchmarks/time_profiles.py). Gains are against the chain of the best block length, two passes a cycle, or plain ar.

Texts: held-out prompts, which the shipped model drafts nearly without an error; the open prompts of `pytrimode bench`,
whose answers are short; and drafts by lot, right as often as is published for the 8B. What of this the engine has:
native/speculation/draft_tree.h; what it brings: benchmarks/trees.py.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import common
from benchmarks.draft_nodes import (
    Calibration,
    Node,
    accepted,
    beside_chain,
    best_first,
    chain,
    n_rows,
    worth_their_rows,
)
from benchmarks.drawn_drafts import draw, fused
from benchmarks.recorded_passes import RecordedPasses, Rows
from benchmarks.time_profiles import PROFILES, Profile
from pytrimode.bench.acceptance import published
from pytrimode.bench.prompts import PROMPTS
from tests.support.decoding import chat_prompts

BLOCK_LENGTHS = (4, 8, 16, 32)
BESIDE = (1, 2, 4, 8, 16, 32)
"""Nodes beside the chain."""
SURE = (0.7, 0.9, 0.98)
"""Probability from which a draft stands already in the second pass."""
MAX_ROWS = 64
DRAWN = 1500
"""Cycles of drafts that are drawn by lot."""


@dataclass
class Cycles:
    """What cycles with one block length emitted and cost."""

    tokens: int = 0
    rows: Counter[int] = field(default_factory=Counter)
    """Of verifications: how many have so many."""
    rejected: int = 0
    ranks: list[int] = field(default_factory=list)
    """Of the right token, where a chain was rejected; -1: none of those recorded."""
    extra: int = 0
    """Second block passes."""

    def seconds(self, profile: Profile, length: int) -> float:
        """Return the time of all passes."""
        drafting = profile.time(length, drafting=True) * (self.n + self.extra)
        return drafting + sum(n * profile.time(rows) for rows, n in self.rows.items())

    @property
    def n(self) -> int:
        """How many cycles there were."""
        return self.rows.total()


Shape = Callable[[Rows, Calibration, Cycles], Sequence[Node]]
"""Chooses what is verified of a draft; the cycles so far tell the rate."""

LookAgain = Callable[[Sequence[int], Sequence[int], Rows], Rows | None]
"""(context, text behind it, draft) -> the draft of a second pass, or None: there is none."""


class Replay:
    """Texts by `ar`, and the cycles that would have made them."""

    def __init__(self, passes: RecordedPasses, prompts: Sequence[Sequence[int]], max_tokens: int) -> None:
        self._passes = passes
        self._texts = [(list(prompt), passes.text(prompt, max_tokens)) for prompt in prompts]
        model = passes.model
        self.ends = frozenset(token for token in range(model.n_vocab) if model.is_eog(token))

    def run(self, length: int, shape: Shape, look_again: LookAgain | None = None) -> Cycles:
        """Return the cycles with blocks of `length`. `look_again`: may replace a draft by that of a second pass."""
        done, calibration = Cycles(), Calibration()
        for prompt, text in self._texts:
            at = 1  # the first token comes from the prompt
            while at < len(text):
                context, rest = [*prompt, *text[:at]], text[at:]
                rows = self._passes.draft(context, length)
                if look_again and (again := look_again(context, rest, rows)):
                    rows, done.extra = again, done.extra + 1
                at += self._cycle(rows, rest, shape, calibration, done)
        return done

    def _cycle(self, rows: Rows, rest: Sequence[int], shape: Shape, calibration: Calibration, done: Cycles) -> int:
        nodes = shape(rows, calibration, done)
        path = accepted(nodes, rest)
        emitted = min(len(path) + 1, len(rest))
        done.tokens += emitted
        done.rows[n_rows(nodes, self.ends)] += 1
        seen = min(emitted, len(rows.tokens))
        for depth in range(seen):
            strays = depth > 0 and path[depth - 1].strays
            calibration.observe(rows, depth, strays, rest[depth])
        if len(path) < min(len(rest), len(nodes)):
            done.rejected += 1
            candidates = rows.tokens[len(path)].tolist() if len(path) < len(rows.tokens) else []
            done.ranks.append(candidates.index(rest[len(path)]) if rest[len(path)] in candidates else -1)
        return emitted

    def chain(self, length: int) -> Cycles:
        """Return the cycles of the engine, not fused."""
        return self.run(length, lambda rows, calibration, _: chain(rows, self.ends, calibration))

    def beside(self, length: int, n: int) -> Cycles:
        """Return those with n nodes beside the chain."""
        return self.run(length, lambda rows, calibration, _: beside_chain(rows, self.ends, calibration, n))

    def priced(self, length: int, profile: Profile, tree: bool) -> Cycles:
        """Return those of a chain cut, or of a tree, by the price of rows at the rate so far."""

        def shape(rows: Rows, calibration: Calibration, done: Cycles) -> Sequence[Node]:
            rate = (1 + done.tokens) / (profile.time(1) + done.seconds(profile, length))
            if tree:
                nodes = best_first(rows, self.ends, calibration, lambda found: len(found) >= MAX_ROWS - 1)
            else:
                nodes = chain(rows, self.ends, calibration)
            return worth_their_rows(nodes, self.ends, lambda n: rate * profile.time(n))

        return self.run(length, shape)

    def twice(self, length: int, profile: Profile, sure: float, rate: float) -> Cycles:
        """Return those of chains, with a second pass where it is known to pay at this rate."""

        def look_again(context: Sequence[int], rest: Sequence[int], rows: Rows) -> Rows | None:
            known = [int(t[0]) if p[0] >= sure else -1 for t, p in zip(rows.tokens, rows.chances, strict=True)]
            again = self._passes.draft(context, length, known)
            again.tokens[:, 0] = [k if k >= 0 else t for k, t in zip(known, again.tokens[:, 0], strict=True)]
            unknown = Calibration()
            first, second = (len(accepted(chain(r, self.ends, unknown), rest)) for r in (rows, again))
            return again if second - first > rate * profile.time(length, drafting=True) else None

        return self.run(length, lambda rows, calibration, _: chain(rows, self.ends, calibration), look_again)


class DrawnReplay(Replay):
    """Cycles of drafts that are drawn by lot, behind a text without an end."""

    def __init__(self, rates: Sequence[float], n: int) -> None:
        self._drafts, self.ends = draw(rates, n), frozenset()

    def run(self, length: int, shape: Shape, look_again: LookAgain | None = None) -> Cycles:
        """See `Replay.run`; nothing looks again."""
        done, calibration = Cycles(), Calibration()
        for rows, rest in self._drafts:
            self._cycle(rows.first(length - 1), rest, shape, calibration, done)
        return done


def best(rates: dict[str, float]) -> tuple[str, float]:
    """Return the fastest and its rate."""
    name = max(rates, key=lambda key: rates[key])
    return name, rates[name]


def acceptance(chains: Mapping[int, Cycles]) -> None:
    """Print how drafts of each block length did."""
    print("| B | cycles | tokens a cycle | rejected | right token then of rank 2 | rank 3 |\n|---|---|---|---|---|---|")
    for b, c in chains.items():
        second, third = (100 * c.ranks.count(k) / max(c.rejected, 1) for k in (1, 2))
        rejected = 100 * c.rejected / c.n
        print(f"| {b} | {c.n} | {c.tokens / c.n:.2f} | {rejected:.0f} % | {second:.0f} % | {third:.0f} % |")


def compare(replay: Replay, profiles: Sequence[Profile], rates: Sequence[float] = ()) -> None:
    """Print a table of acceptance and one of gains. `rates`: of drafts that are drawn; then fused cycles are there."""
    chains = {b: replay.chain(b) for b in BLOCK_LENGTHS}
    acceptance(chains)
    columns = ["cut", "chain + n", "tree", "fused" if rates else "twice, by an oracle"]
    print("\n| machine | chain | against ar | " + " | ".join(columns) + " |\n|---|---|---|" + "---|" * len(columns))
    beside = {(b, n): replay.beside(b, n) for b in BLOCK_LENGTHS for n in BESIDE if b + n <= MAX_ROWS}
    for profile in profiles:

        def speeds(cycles: Mapping[str, tuple[int, Cycles]], of: Profile = profile) -> dict[str, float]:
            return {name: c.tokens / c.seconds(of, b) for name, (b, c) in cycles.items()}

        plain = 1 / profile.time(1)
        name, rate = best({"ar": plain} | speeds({f"B {b}": (b, c) for b, c in chains.items()}))
        cells = [
            best(speeds({f"B {b}": (b, replay.priced(b, profile, tree=False)) for b in BLOCK_LENGTHS})),
            best(speeds({f"B {b} + {n}": (b, c) for (b, n), c in beside.items()})),
            best(speeds({f"B {b}": (b, replay.priced(b, profile, tree=True)) for b in BLOCK_LENGTHS})),
        ]
        if rates:
            cells.append(best(fused(rates, profile, max(BLOCK_LENGTHS), MAX_ROWS)))
        else:
            found = {f"B {b}, {p}": (b, replay.twice(b, profile, p, rate)) for b in BLOCK_LENGTHS for p in SURE}
            cells.append(best(speeds(found)))
        gains = " | ".join(f"{100 * (its / rate - 1):+.1f} % ({which})" for which, its in cells)
        print(f"| {profile.name} | {name} | {rate / plain:.2f}x | {gains} |", flush=True)


def main() -> None:
    """Print tables for the held-out and for the open prompts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts (default: %(default)s)")
    parser.add_argument("-n", "--max-tokens", type=int, default=128, help="of an answer (default: %(default)s)")
    parser.add_argument("--cache", type=Path, help="file of passes that were computed before")
    args = parser.parse_args()
    model, checkpoint = common.tiny_model()
    with model:
        passes = RecordedPasses(model, args.cache)
        heldout = chat_prompts(model, checkpoint, 200)[:: 200 // args.prompts][: args.prompts]
        texts = [text for category in PROMPTS.values() for text in category]
        questions = [model.chat_tokens([{"role": "user", "content": text}]) for text in texts]
        for name, prompts in (("Open", questions), ("Held-out", heldout)):
            print(f"\n### {name} prompts: {len(prompts)}\n", flush=True)
            compare(Replay(passes, prompts, args.max_tokens), PROFILES)
            passes.save()
    print("\n### Drafts by lot, at the rates published for the 8B\n", flush=True)
    rates = published("8B").rates
    compare(DrawnReplay(rates, DRAWN), PROFILES, rates)


if __name__ == "__main__":
    main()
