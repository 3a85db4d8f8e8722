#!/usr/bin/env python3
"""A streamed answer, put together, is the unstreamed one: every mode, random stop strings, two models.

python -m benchmarks.stream_equality                # 200 prompts in each mode and on each model
"""

from __future__ import annotations

import argparse
import sys

from benchmarks import common
from pytrimode import MODES
from tests.support.streaming import cases, fault


def main() -> None:
    """Compare and say how many differ; exit with 1 if any does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200, help="in each mode (default: %(default)s)")
    args = parser.parse_args()
    n = args.prompts * len(MODES)
    tiny, checkpoint = common.tiny_model()
    faults: list[str] = []
    with tiny, common.random_model() as random:
        for name, model in (("trimode-tiny", tiny), ("random weights", random)):
            stopped = broken = 0
            for case, text in common.progress(cases(model, checkpoint, n), name, n):
                found = fault(model, case, text)
                faults += [found] if found else []
                stopped += any(s in text for s in case.stop)
                broken += "\ufffd" in text
            print(f"{name}: {n} requests, {stopped} ended by a stop string, {broken} with broken characters")
    print(f"{len(faults)} differ", *faults, sep="\n")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
