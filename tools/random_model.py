#!/usr/bin/env python3
"""Write a model of random weights in a real shape, and its drafter LoRA beside it, in seconds: for speed, not for text.

    python tools/random_model.py 3B q8_0 /big/disk/random-3b.gguf
    python tools/random_model.py 8B q4_k_m /tmp/short.gguf --layers 6

`pytrimode bench --shape` does so by itself, in a temporary directory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pytrimode.bench.random_model import write_random_model
from pytrimode.gguf.types import OUTPUT_TYPES
from pytrimode.plan.model_shape import BUILT_IN, model_shape


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", help=f"{', '.join(BUILT_IN)}, or a GGUF file or checkpoint of the shape")
    parser.add_argument("type", choices=list(OUTPUT_TYPES), metavar="type", help="by the converter's names")
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, metavar="N", help="only the first N")
    arguments = parser.parse_args()
    write_random_model(arguments.out, model_shape(arguments.shape), arguments.type, arguments.layers)


if __name__ == "__main__":
    main()
