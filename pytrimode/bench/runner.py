"""Runs the plan: settings take turns, so that a busy machine slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pytrimode.bench.acceptance import SimulatedAcceptance
from pytrimode.bench.plan import STOCK, Setting, Workload
from pytrimode.bench.samples import Sample, total
from pytrimode.bench.stock import Stock
from pytrimode.options.generation_options import ResolvedOptions
from pytrimode.options.modes import SELF_SPEC
from pytrimode.options.sampling import Sampling
from pytrimode.trimode import TriMode

Tokens = Sequence[int]
Results = dict[tuple[Workload, Setting], list[Sample]]
"""A sample for each round."""


@dataclass(frozen=True)
class Turn:
    """What is measured without a break: some prompts under one setting."""

    round: int
    workload: Workload
    setting: Setting
    prompts: Sequence[Tokens]


def turns(
    prompts: Mapping[tuple[str, int], Sequence[Tokens]],
    workloads: Sequence[Workload],
    settings: Sequence[Setting],
    rounds: int,
) -> Iterator[Turn]:
    """All turns in order; `prompts` by category and length.

    One request at a time: the settings change with every prompt. Several: with every category.
    """
    shift = 0
    for number in range(rounds):
        for workload in workloads:
            texts = list(prompts[workload.category, workload.prompt_length])
            if workload.parallel > 1:
                n = 2 * max(workload.parallel, len(texts))  # nobody is alone for long
                parts = [[texts[i % len(texts)] for i in range(n)]]
            else:
                parts = [[text] for text in texts]
            for part in parts:
                usable = [s for s in settings if workload.parallel == 1 or s.mode != STOCK]
                for i in range(len(usable)):
                    yield Turn(number, workload, usable[(i + shift) % len(usable)], part)
                shift += 1


class Runner:
    """Runs turns on a model, and on stock llama-cpp-python where it is given."""

    def __init__(
        self,
        model: TriMode,
        stock: Stock | None,
        sampling: Callable[[int], Sampling],
        *,
        ignore_eos: bool,
        acceptance: SimulatedAcceptance | None = None,
    ) -> None:
        """Prepare runs. `acceptance`: drafts of self-spec are accepted by lot, and what is written means nothing."""
        self._model = model
        self._stock = stock
        self._sampling = sampling
        self._ignore_eos = ignore_eos
        self._acceptance = acceptance

    def run(self, turn: Turn) -> Sample:
        """Measure it. Raises ValueError for prompts that do not fit the context."""
        if turn.setting.mode == STOCK:
            assert self._stock is not None
            return self._stock.run(turn.prompts, turn.workload.max_tokens, self._ignore_eos)
        options = turn.setting.options(
            turn.workload.max_tokens, self._sampling(turn.round), ignore_eos=self._ignore_eos
        )
        jobs = [(tokens, self._simulated(self._model.resolve(options, len(tokens)))) for tokens in turn.prompts]
        return self._measure(jobs, turn.workload.parallel)

    def _simulated(self, resolved: ResolvedOptions) -> ResolvedOptions:
        if self._acceptance is None or resolved.engine.mode != SELF_SPEC:
            return resolved
        return replace(resolved, engine=resolved.engine.replace(**self._acceptance.engine_arguments()))

    def _measure(self, jobs: Sequence[tuple[Tokens, ResolvedOptions]], parallel: int) -> Sample:
        sample = Sample()
        counted = [(0, 0)] * len(jobs)
        started = time.perf_counter()
        for job, event in self._model.run_many(jobs, parallel):
            stats = event.stats
            drafted, accepted = counted[job]
            if stats.drafted > drafted:
                cut = bool(event.finish_reason) and event.finish_reason != "stop"
                looked_at = stats.accepted - accepted if cut else stats.drafted - drafted
                sample.add_cycle(looked_at, stats.accepted - accepted)
            counted[job] = (stats.drafted, stats.accepted)
            if event.finish_reason:
                sample.add_request(stats)
        wall = time.perf_counter() - started
        sample.seconds = wall if parallel > 1 else sample.pass_seconds
        return sample


def collect(runner: Runner, all_turns: Iterator[Turn], results: Results, warm_up: int) -> Iterator[Turn]:
    """Run turn after turn and add the samples to `results`; yields each turn when it is done.

    The first `warm_up` rounds do not count.
    """
    for turn in all_turns:
        sample = runner.run(turn)
        number = turn.round - warm_up
        if number >= 0:
            rounds = results.setdefault((turn.workload, turn.setting), [])
            if len(rounds) == number:
                rounds.append(sample)
            else:
                rounds[number] = total([rounds[number], sample])
        yield turn
