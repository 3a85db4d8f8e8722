#!/usr/bin/env python3
"""With sampler "coupled" a seed gives the same text in ar and in self-spec: 7,200 comparisons.

python -m benchmarks.coupled_equality               # 100 prompts on each of two models, about 15 minutes of CPU

The models: the shipped one, and one of random weights, which is less sure of what it says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import product
from pathlib import Path

from benchmarks import common
from tests.support.coupled_text import BLOCK_LENGTHS, MAX_TOKENS, SEEDS, TEMPERATURES, TOP_PS, compare, random_prompts
from tests.support.decoding import chat_prompts
from tests.support.joint_distribution import load_agreeing_model


def main() -> None:
    """Compare and print a table; exit with 1 if a text differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100, help="of each model (default: %(default)s)")
    args = parser.parse_args()
    print(f"{args.prompts} prompts, seeds {SEEDS}, block lengths {BLOCK_LENGTHS}, up to {MAX_TOKENS} tokens\n")
    print("| model | temperature | top_p | texts | different ones | tokens | equal to ar |")
    print("|---|---|---|---|---|---|---|")
    faults = []
    tiny, checkpoint = common.tiny_model()
    with tempfile.TemporaryDirectory() as root, tiny, load_agreeing_model(Path(root)) as agreeing:
        models = (
            ("trimode-tiny", tiny, chat_prompts(tiny, checkpoint, args.prompts)),
            ("random weights", agreeing, random_prompts(agreeing, args.prompts)),
        )
        for (name, model, prompts), temperature, top_p in product(models, TEMPERATURES, TOP_PS):
            total = len(prompts) * len(SEEDS) * len(BLOCK_LENGTHS)
            runs = compare(model, prompts, temperature, top_p)
            done = list(common.progress(runs, f"{name}, T {temperature}, top_p {top_p}", total))
            faults += [f"{name}: {what}" for what, _, equal in done if not equal]
            texts, tokens = {tuple(t) for _, t, _ in done}, sum(len(t) for _, t, _ in done)
            equal = sum(e for *_, e in done)
            print(f"| {name} | {temperature} | {top_p} | {len(done)} | {len(texts)} | {tokens} | {equal} |", flush=True)
    print(*faults, sep="\n")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
