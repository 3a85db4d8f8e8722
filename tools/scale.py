#!/usr/bin/env python3
"""Convert a synthetic checkpoint with the shapes of a real one: seconds, peak memory and size of each type.

python tools/scale.py 3B /big/disk --types q8_0 q4_k_m

Needs room for the checkpoint (7.7 GB for 3B, 27 GB for 14B) and one output. The weights are random; both are removed
at the end unless --keep is given.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from synthetic import make_checkpoint

SHAPES = {
    "3B": {"hidden": 3072, "layers": 26, "ffn": 9216, "rope_theta": 1e6, "shards": 2},
    "8B": {"hidden": 4096, "layers": 34, "ffn": 14336, "rope_theta": 1e6, "shards": 4},
    "14B": {"hidden": 5120, "layers": 40, "ffn": 16384, "rope_theta": 1e9, "shards": 6},
}


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MiB of a command that must succeed."""
    started = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.monotonic() - started, usage.ru_maxrss / 1024


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SHAPES)
    parser.add_argument("directory", type=Path, help="a directory with enough room")
    parser.add_argument("--types", nargs="+", default=["q8_0", "q4_k_m"])
    parser.add_argument("--keep", action="store_true", help="keep the checkpoint")
    arguments = parser.parse_args()
    checkpoint = arguments.directory / f"synthetic-{arguments.size}"
    if not checkpoint.exists():
        make_checkpoint(checkpoint, heads=32, kv_heads=8, head_dim=128, vocab=131072, original_max=16384,
                        max_position=262144, **SHAPES[arguments.size])  # fmt: skip
    print("| shape | type | seconds | peak MiB | GB |\n|---|---|---|---|---|")
    out = arguments.directory / f"synthetic-{arguments.size}.gguf"
    try:
        for kind in arguments.types:
            command = [sys.executable, "-m", "pytrimode.convert.cli", checkpoint, out, f"--{kind}", "-q", "--force"]
            seconds, peak = measured(list(map(str, command)))
            size = out.stat().st_size / 1e9
            print(f"| {arguments.size} | {kind} | {seconds:.1f} | {peak:.0f} | {size:.2f} |", flush=True)
    finally:
        out.unlink(missing_ok=True)
        if not arguments.keep:
            shutil.rmtree(checkpoint)


if __name__ == "__main__":
    main()
