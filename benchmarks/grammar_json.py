#!/usr/bin/env python3
"""JSON under a grammar in self-spec: does every answer parse, and what do drafts save?

python benchmarks/grammar_json.py                   # 500 answers: five schemas, greedy and at 0.8, two models
"""

from __future__ import annotations

import argparse
import sys

import common  # isort: skip
from support.json_tasks import SCHEMAS, TEMPERATURES, Generation, generations


def main() -> None:
    """Generate and print a table; exit with 1 if an answer is not JSON of its schema."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=250, help="of each model (default: %(default)s)")
    parser.add_argument("-B", "--block-length", type=int, default=16, help="(default: %(default)s)")
    args = parser.parse_args()
    tiny, checkpoint = common.tiny_model()
    faulty: list[str] = []
    print("| model | schema | temperature | answers | parse, conform | tokens per forward |")
    print("|---|---|---|---|---|---|")
    with tiny, common.random_model() as random:
        for name, model in (("trimode-tiny", tiny), ("random weights", random)):
            run = generations(model, checkpoint, args.answers, mode="self-spec", block_length=args.block_length)
            answers = list(common.progress(run, name, args.answers))
            for schema in SCHEMAS:
                for temperature in TEMPERATURES:
                    some = [a for a in answers if (a.schema, a.temperature) == (schema, temperature)]
                    print(f"| {name} | {schema} | {temperature} | {row(some)} |")
            print(f"| {name} | all | | {row(answers)} |", flush=True)
            faulty += [f"{name}, {a.schema}, T {a.temperature}: {a.fault}" for a in answers if a.fault]
    print("", *faulty, sep="\n")
    sys.exit(1 if faulty else 0)


def row(answers: list[Generation]) -> str:
    """The last columns of the table."""
    good = sum(a.fault is None for a in answers)
    per_forward = sum(a.tokens for a in answers) / max(sum(a.forward_passes for a in answers), 1)
    return f"{len(answers)} | {good} | {per_forward:.2f}"


if __name__ == "__main__":
    main()
