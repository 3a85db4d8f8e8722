"""From samples to figures: medians over the rounds, ratios within each round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytrimode.answers.results import ratio
from pytrimode.bench.plan import STOCK, Setting, Workload
from pytrimode.bench.runner import Results
from pytrimode.bench.samples import Sample, total
from pytrimode.options.modes import AR, AUTO

ALL = "all"
"""The category of all prompts together."""


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    median: float
    lowest: float
    highest: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Line:
    """The figures of one setting under one workload."""

    workload: Workload
    setting: Setting
    tokens_per_second: Spread
    against: dict[str, Spread]
    """Ratios of tokens/s, round by round, to "ar" and to `STOCK` with the same workload, where they were measured."""
    sum: Sample
    """Over all rounds."""
    by_round: Sequence[float]
    """tokens/s."""


def lines(results: Results) -> list[Line]:
    """Return a line for each workload and setting, and with several categories one for all of them."""
    whole = _with_all(results)
    found = []
    for (workload, setting), rounds in whole.items():
        against = {}
        for name in (AR, STOCK):
            base = whole.get((workload, Setting(name)))
            if base and setting.mode != name:
                ratios = [
                    ratio(a.tokens_per_second, b.tokens_per_second)
                    for a, b in zip(rounds, base, strict=False)
                    if b.tokens_per_second
                ]
                if ratios:
                    against[name] = Spread.of(ratios)
        speeds = [r.tokens_per_second for r in rounds]
        found.append(Line(workload, setting, Spread.of(speeds), against, total(rounds), speeds))
    return found


def _with_all(results: Results) -> Results:
    if len({workload.category for workload, _ in results}) < 2:
        return results
    whole = dict(results)
    parts: dict[tuple[Workload, Setting], list[list[Sample]]] = {}
    for (workload, setting), rounds in results.items():
        parts.setdefault((replace(workload, category=ALL), setting), []).append(rounds)
    n_parts = max(len(found) for found in parts.values())
    for key, found in parts.items():
        if len(found) == n_parts:  # else it was interrupted: not comparable
            n_rounds = min(len(rounds) for rounds in found)
            whole[key] = [total(rounds[i] for rounds in found) for i in range(n_rounds)]
    return whole


@dataclass(frozen=True)
class AutoLine:
    """How mode auto does against the best fixed setting whose text is the same."""

    workload: Workload
    best: Setting
    against_best: Spread
    against_ar: Spread | None


def auto_lines(results: Results) -> list[AutoLine]:
    """One for each workload where auto and another exact setting were measured."""
    whole = _with_all(results)
    found = []
    for workload in dict.fromkeys(workload for workload, _ in whole):
        by_setting = {s: rounds for (w, s), rounds in whole.items() if w == workload}
        auto = by_setting.get(Setting(AUTO))
        fixed = {s: r for s, r in by_setting.items() if s.exact and s.mode not in (AUTO, STOCK)}
        if not auto or not fixed:
            continue
        best = max(fixed, key=lambda s: statistics.median(r.tokens_per_second for r in fixed[s]))
        against_ar = _ratios(auto, by_setting[Setting(AR)]) if Setting(AR) in by_setting else None
        found.append(AutoLine(workload, best, _ratios(auto, fixed[best]), against_ar))
    return found


def _ratios(a: Sequence[Sample], b: Sequence[Sample]) -> Spread:
    return Spread.of([ratio(x.tokens_per_second, y.tokens_per_second) for x, y in zip(a, b, strict=False)])
