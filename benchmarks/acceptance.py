#!/usr/bin/env python3
"""How many drafts survive a temperature: rejection sampling, coupled sampling, and "sample and compare".

python -m benchmarks.acceptance                     # about 10 minutes of CPU

All three keep the target's distribution. The first two are the engine's. The third draws from the target independently
of the draft and accepts when they are equal; it is simulated on the engine's logits, step by step, and so are the
others, as a check of the simulation. The last column needs no draws: the chance that an examined draft is accepted, in
closed form, averaged over the same drafts for all three.

Where a model is sure of what it says, as the shipped one is, the rules hardly differ; so a model of random weights,
which is not, follows.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import common
from pytrimode import TriMode
from pytrimode.options.sampling import REJECTION, SAMPLERS, Sampling
from tests.support.coupled_text import random_prompts
from tests.support.decoding import chat_prompts, decode
from tests.support.joint_distribution import load_agreeing_model
from tests.support.sampling_reference import RULES, Distributions, FreshNoise, Rule, expected_acceptance, self_spec

OPTIONS = {"no truncation": {"top_k": 0, "top_p": 1.0, "min_p": 0.0}, "defaults": {}}


@dataclass
class Tally:
    """What the requests of one seed cost."""

    tokens: int = 0
    passes: int = 0
    drafted: int = 0
    accepted: int = 0
    cycles: int = 0

    @property
    def figures(self) -> tuple[float, float, float]:
        """Share of accepted drafts, acceptance length, tokens per forward."""
        return self.accepted / self.drafted, 1 + self.accepted / self.cycles, self.tokens / self.passes


def engine(model: TriMode, prompts: Sequence[list[int]], sampling: Sampling, seed: int, **options: int) -> Tally:
    """Return the figures of the engine."""
    total = Tally()
    for i, prompt in enumerate(prompts):
        seeded = replace(sampling, seed=1000 * seed + i)
        _, stats = decode(model, prompt, mode="self-spec", sampling=seeded, **options)
        total.tokens += stats.completion_tokens
        total.passes += stats.forward_passes
        total.drafted += stats.drafted
        total.accepted += stats.accepted
        total.cycles += stats.cycles
    return total


def simulation(views: Sequence[Distributions], rule: Rule, seed: int, **options: int) -> Tally:
    """Return the same from the rule written out in numpy."""
    total, rng, model = Tally(), np.random.default_rng(seed), views[0].model
    ends = [t for t in range(model.n_vocab) if model.is_eog(t)]
    for of in views:
        run = self_spec(of, rule, FreshNoise(rng, model.n_vocab), ends=ends, **options)
        total.tokens += len(run.tokens)
        total.passes += run.passes
        total.drafted += run.drafted
        total.accepted += run.accepted
        total.cycles += run.cycles
    return total


def closed_form(views: Sequence[Distributions], seed: int, **options: int) -> dict[str, float]:
    """Mean chance of acceptance by rule, over the drafts that rejection sampling examines."""
    chances: dict[str, list[float]] = {name: [] for name in RULES}

    def watching(p: np.ndarray, q: np.ndarray, *rest: object) -> tuple[bool, int]:
        for name in RULES:
            chances[name].append(expected_acceptance(name, p, q))
        return RULES[REJECTION](p, q, *rest)  # type: ignore[arg-type]

    simulation(views, watching, seed, **options)
    return {name: statistics.fmean(values) for name, values in chances.items()}


def row(tallies: Sequence[Tally]) -> str:
    """Mean and standard deviation of each figure over seeds."""
    columns = zip(*(tally.figures for tally in tallies), strict=True)
    return " | ".join(f"{statistics.fmean(c):.3f} ± {statistics.stdev(c):.3f}" for c in columns)


def compare(name: str, model: TriMode, prompts: Sequence[list[int]], seeds: int, **limits: int) -> None:
    """Print a table for each temperature and truncation."""
    for temperature in (0.7, 1.0):
        for options_name, options in OPTIONS.items():
            sampling = {s: Sampling(temperature=temperature, sampler=s, **options) for s in SAMPLERS}
            views = [Distributions(model, prompt, sampling[REJECTION]) for prompt in prompts]
            jobs = [(rule, seed) for rule in RULES for seed in range(seeds)]
            simulated: dict[str, list[Tally]] = {rule: [] for rule in RULES}
            measured: dict[str, list[Tally]] = {rule: [] for rule in SAMPLERS}
            for rule, seed in common.progress(jobs, f"{name}, T {temperature}, {options_name}", len(jobs)):
                simulated[rule].append(simulation(views, RULES[rule], seed, **limits))
                if rule in SAMPLERS:
                    measured[rule].append(engine(model, prompts, sampling[rule], seed, **limits))
            chances = closed_form(views, seeds, **limits)
            print(f"\n### {name}, temperature {temperature}, {options_name}\n")
            print("| rule | | drafts accepted | acceptance length | tokens per forward | chance, closed form |")
            print("|---|---|---|---|---|---|")
            for rule in RULES:
                if rule in SAMPLERS:
                    print(f"| {rule} | engine | {row(measured[rule])} | |")
                print(f"| {rule} | simulated | {row(simulated[rule])} | {chances[rule]:.3f} |", flush=True)


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=20, help="of each model (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="2 or more (default: %(default)s)")
    parser.add_argument("-B", "--block-length", type=int, default=16, help="(default: %(default)s)")
    parser.add_argument("-n", "--max-tokens", type=int, default=64, help="(default: %(default)s)")
    args = parser.parse_args()
    limits = {"max_tokens": args.max_tokens, "block_length": args.block_length}
    tiny, checkpoint = common.tiny_model()
    with tempfile.TemporaryDirectory() as root, tiny, load_agreeing_model(Path(root)) as agreeing:
        heldout = chat_prompts(tiny, checkpoint, 200)[:: 200 // args.prompts][: args.prompts]
        print(f"{args.prompts} prompts, {args.seeds} seeds, {limits}, with LoRA: {tiny.has_lora}")
        compare("trimode-tiny", tiny, heldout, args.seeds, **limits)
        compare("random weights", agreeing, random_prompts(agreeing, args.prompts), args.seeds, **limits)


if __name__ == "__main__":
    main()
