#!/usr/bin/env python3
"""With sampler "coupled" a seed gives the same text in ar and in self-spec: 3,600 comparisons on the shipped model.

python benchmarks/coupled_equality.py               # 100 prompts, about 25 minutes of CPU
"""

from __future__ import annotations

import argparse
import sys
from itertools import product

import common  # isort: skip
from coupled_text import BLOCK_LENGTHS, MAX_TOKENS, SEEDS, TEMPERATURES, TOP_PS, compare
from decoding import chat_prompts


def main() -> None:
    """Compare and print a table; exit with 1 if a text differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100, help="held-out prompts (default: %(default)s)")
    args = parser.parse_args()
    model, checkpoint = common.tiny_model()
    print(f"{args.prompts} prompts, seeds {SEEDS}, block lengths {BLOCK_LENGTHS}, up to {MAX_TOKENS} tokens\n")
    print("| temperature | top_p | texts | tokens | equal to ar |")
    print("|---|---|---|---|---|")
    different = []
    with model:
        prompts = chat_prompts(model, checkpoint, args.prompts)
        per_setting = len(prompts) * len(SEEDS) * len(BLOCK_LENGTHS)
        for temperature, top_p in product(TEMPERATURES, TOP_PS):
            runs = compare(model, prompts, temperature, top_p)
            done = list(common.progress(runs, f"T {temperature}, top_p {top_p}", per_setting))
            different += [what for what, _, equal in done if not equal]
            equal, tokens = sum(e for *_, e in done), sum(n for _, n, _ in done)
            print(f"| {temperature} | {top_p} | {len(done)} | {tokens} | {equal} |", flush=True)
    print(*different, sep="\n")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
