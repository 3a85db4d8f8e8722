#!/usr/bin/env python3
"""Self-speculation keeps the sampling distribution: chi-square tests of three tokens against exact enumeration.

python -m benchmarks.sampling_distribution --resume rejection.jsonl            # 216 cases of 20,000 draws
python -m benchmarks.sampling_distribution --resume coupled.jsonl --sampler coupled

A case is a prompt, a temperature, a truncation and a block length, on a small model of random weights whose drafts
agree with its target about every second time. Seeds are 0, 1, 2, ...; requests run side by side, so the crowd is
tested too. Wrong acceptance rules, simulated on the same distributions, are tested as well and should fail.

With --resume a run that was broken off loses one case. Exits with 1 if a case fails, with 2 if cases are missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice, product
from multiprocessing import get_context
from pathlib import Path

from benchmarks import common
from pytrimode import TriMode
from pytrimode.options.sampling import REJECTION, SAMPLERS, Sampling
from tests.support.joint_distribution import (
    PROMPTS,
    SIGNIFICANCE,
    TEMPERATURES,
    TRUNCATIONS,
    chi_square_p,
    draw_many,
    enumerate_cells,
    load_agreeing_model,
    simulate_many,
)
from tests.support.sampling_reference import WRONG_RULES, Distributions

BLOCK_LENGTHS = (2, 4, 16)
WRONG_PROMPT, WRONG_BLOCK_LENGTH = 0, 4
"""The wrong rules are simulated for these only."""
SIDE_BY_SIDE = 16
"""Requests in a pass."""


@dataclass(frozen=True)
class Case:
    """One chi-square test."""

    prompt: int
    temperature: float
    truncation: str
    block_length: int
    sampler: str
    draws: int


@dataclass(frozen=True)
class Outcome:
    """Its p value, the share of accepted drafts, and the p values of wrong rules."""

    case: Case
    p: float
    acceptance: float
    n_cells: int
    wrong: dict[str, float]


_model: TriMode
"""Of this process."""


def load() -> None:
    """Make the model of a worker process."""
    global _model
    with tempfile.TemporaryDirectory(prefix="sampling-distribution-") as root:
        _model = load_agreeing_model(Path(root), n_parallel=SIDE_BY_SIDE, flash_attn=True)


def test(case: Case) -> Outcome:
    """Draw and compare."""
    prompt = PROMPTS[case.prompt]
    sampling = Sampling(temperature=case.temperature, sampler=case.sampler, **TRUNCATIONS[case.truncation])
    of = Distributions(_model, prompt, sampling)
    cells = enumerate_cells(of, case.draws)
    drawn = draw_many(_model, prompt, sampling, range(case.draws), mode="self-spec", block_length=case.block_length)
    wrong = {}
    if (case.prompt, case.block_length, case.sampler) == (WRONG_PROMPT, WRONG_BLOCK_LENGTH, REJECTION):
        for name, rule in WRONG_RULES.items():
            counts = simulate_many(of, rule, case.draws, block_length=case.block_length)
            wrong[name] = chi_square_p(cells, counts)
    acceptance = drawn.accepted / drawn.drafted
    return Outcome(case, chi_square_p(cells, drawn.counts), acceptance, len(cells.expected), wrong)


def finished(path: Path | None, cases: list[Case]) -> dict[Case, Outcome]:
    """Return what an earlier run has left of these cases."""
    if path is None or not path.exists():
        return {}
    wanted = set(cases)
    read = [json.loads(line) for line in path.read_text().splitlines()]
    outcomes = [Outcome(**line | {"case": Case(**line["case"])}) for line in read]
    return {outcome.case: outcome for outcome in outcomes if outcome.case in wanted}


def run(cases: list[Case], path: Path | None, jobs: int) -> Iterator[Outcome]:
    """Yield the outcomes, each of them kept in the file before the next one is waited for."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=load) as pool:
        for outcome in common.progress(pool.map(test, cases), "chi-square tests", len(cases)):
            if path is not None:
                with path.open("a") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
            yield outcome


def report(outcomes: list[Outcome], n: int) -> bool:
    """Print the tables; whether all cases pass. `n`: cases that the whole test has."""
    print("Smallest p value over prompts and block lengths (lowest to highest share of accepted drafts)\n")
    print("| temperature | " + " | ".join(TRUNCATIONS) + " |")
    print("|---" * (len(TRUNCATIONS) + 1) + "|")
    for temperature in sorted({o.case.temperature for o in outcomes}):
        row = []
        for truncation in TRUNCATIONS:
            here = [o for o in outcomes if (o.case.temperature, o.case.truncation) == (temperature, truncation)]
            accepted = [o.acceptance for o in here]
            row.append(f"{min(o.p for o in here):.3g} ({min(accepted):.2f} to {max(accepted):.2f})" if here else "")
        print(f"| {temperature} | " + " | ".join(row) + " |")
    for block_length in BLOCK_LENGTHS:
        ps = [o.p for o in outcomes if o.case.block_length == block_length]
        if ps:
            print(f"\nblock length {block_length}: {len(ps)} cases, smallest p {min(ps):.3g}", end="")
    worst = min(outcomes, key=lambda o: o.p)
    adjusted = min(1.0, worst.p * n)
    print(
        f"\n\n{len(outcomes)} of {n} cases, {worst.case.draws} draws each, {min(o.n_cells for o in outcomes)} to ",
        end="",
    )
    print(f"{max(o.n_cells for o in outcomes)} cells; smallest p {worst.p:.3g} ({worst.case}),")
    passed = adjusted > SIGNIFICANCE
    print(f"times {n} (Bonferroni) {adjusted:.3g}, to exceed {SIGNIFICANCE}: {'pass' if passed else 'FAIL'}")
    for name in WRONG_RULES:
        ps = [o.wrong[name] for o in outcomes if name in o.wrong]
        if ps:
            found = sum(p * n <= SIGNIFICANCE for p in ps)
            print(f"wrong rule {name!r}: found out in {found} of {len(ps)} cases")
    return passed


def main() -> None:
    """Run the cases and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20_000, help="for each case (default: %(default)s)")
    parser.add_argument("--sampler", choices=list(SAMPLERS), default=REJECTION)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="1 to %(default)s (default: %(default)s)")
    parser.add_argument("--block-lengths", type=int, nargs="+", default=BLOCK_LENGTHS, choices=BLOCK_LENGTHS)
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="skip the cases in it, add those that are finished")
    parser.add_argument("--at-most", type=int, metavar="N", help="cases to run now (default: all that are missing)")
    args = parser.parse_args()
    cases = [
        Case(prompt, temperature, truncation, block_length, args.sampler, args.draws)
        for prompt, temperature, truncation, block_length in product(
            range(args.prompts), TEMPERATURES, TRUNCATIONS, args.block_lengths
        )
    ]
    outcomes = finished(args.resume, cases)
    missing = list(islice((case for case in cases if case not in outcomes), args.at_most))
    outcomes |= {outcome.case: outcome for outcome in run(missing, args.resume, args.jobs)} if missing else {}
    passed = report(list(outcomes.values()), len(cases))
    sys.exit(1 if not passed else 0 if len(outcomes) == len(cases) else 2)


if __name__ == "__main__":
    main()
