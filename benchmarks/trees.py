#!/usr/bin/env python3
"""What trees of drafts bring: tokens per forward on real drafts, tokens per second where drafts are accepted by lot.

python -m benchmarks.trees                               # trimode-tiny's open prompts, two minutes
python -m benchmarks.trees random-3b.gguf --rounds 4     # a model of random weights (tools/random_model.py)

Seconds are those of the CPU, so that what else runs takes none of them; settings take turns, and meet the same lots.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks import common
from pytrimode import TriMode
from pytrimode.bench.acceptance import SimulatedAcceptance, published
from pytrimode.bench.prompts import PROMPTS
from pytrimode.options.generation_options import TREE_MEASURED, GenerationOptions
from pytrimode.options.sampling import Sampling
from tests.support.decoding import decode

LENGTHS = (8, 16, 32)
BESIDE = (4, 8, 16, 31)
PROMPT = list(range(5, 40))
"""Any: the text means nothing where drafts are accepted by lot."""
PAIRS: Mapping[str, Mapping[str, Any]] = {
    "self-spec, B 32": {"mode": "self-spec", "block_length": 32},
    "auto, two passes": {"mode": "auto", "fused": False},
    "auto": {"mode": "auto"},
}
"""Each without trees and with them."""


def open_prompts(max_tokens: int) -> None:
    """Print tokens per forward on prompts of which the shipped model is not sure."""
    print("| B | chain | " + " | ".join(f"and {n} drafts" for n in BESIDE) + " |\n|---|---|" + "---|" * len(BESIDE))
    model, _ = common.tiny_model()
    with model:
        texts = [text for name, texts in PROMPTS.items() if name != "copy-edit" for text in texts]
        prompts = [model.chat_tokens([{"role": "user", "content": text}]) for text in texts]
        for length in LENGTHS:
            rates = []
            for n in (0, *BESIDE):
                options = {"mode": "self-spec", "block_length": length, "tree_nodes": n, "max_tokens": max_tokens}
                stats = [decode(model, prompt, **options)[1] for prompt in prompts]
                rates.append(sum(s.completion_tokens for s in stats) / sum(s.forward_passes for s in stats))
            print(f"| {length} | {rates[0]:.2f} | " + " | ".join(f"{r:.2f}" for r in rates[1:]) + " |", flush=True)


def tokens_per_second(model: TriMode, lots: SimulatedAcceptance, seed: int, options: Mapping[str, Any]) -> float:
    """Return that of one answer behind its first token, by the seconds of the CPU."""
    wanted = GenerationOptions(**options, ignore_eos=True, loop_window=0, sampling=Sampling(temperature=0.0, seed=seed))
    resolved = model.resolve(wanted, len(PROMPT))
    resolved = replace(resolved, engine=resolved.engine.replace(**lots.engine_arguments()))
    begin, n = 0.0, 0
    for _, event in model.run_many([(PROMPT, resolved)], 1):
        if event.tokens and not begin:
            begin = time.process_time()
        else:
            n += len(event.tokens)
    return n / (time.process_time() - begin)


def by_lot(file: str, size: str, max_tokens: int, rounds: int, names: list[str]) -> None:
    """Print the ratio of each pair of settings, after a round in which passes are measured."""
    lots = published(size)
    print("| setting | tokens/s of CPU time, chain | with trees against it |\n|---|---|---|")
    with TriMode(file, n_ctx=2048, n_threads=1, tuning_cache=False) as model:
        for name in names:
            speeds: dict[int, list[float]] = {0: [], TREE_MEASURED: []}
            for number in range(rounds + 1):
                for n in speeds:
                    options = {**PAIRS[name], "tree_nodes": n, "max_tokens": max_tokens}
                    speeds[n].append(tokens_per_second(model, lots, 100 + number, options))
            chain, tree = (speeds[n][1:] for n in speeds)
            ratios = [t / c for c, t in zip(chain, tree, strict=True)]
            spread = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {name} | {statistics.median(chain):.1f} | {spread} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="a GGUF file; without one real drafts of the shipped model")
    parser.add_argument("--acceptance", default="8B", help="whose published rates (default: %(default)s)")
    parser.add_argument("--pair", action="append", choices=PAIRS, help="only this one; repeatable")
    parser.add_argument("-n", "--max-tokens", type=int, help="of an answer (default: 128, or 600 by lot)")
    parser.add_argument("--rounds", type=int, default=4, help="(default: %(default)s)")
    args = parser.parse_args()
    if args.file:
        by_lot(args.file, args.acceptance, args.max_tokens or 600, args.rounds, args.pair or list(PAIRS))
    else:
        open_prompts(args.max_tokens or 128)


if __name__ == "__main__":
    main()
