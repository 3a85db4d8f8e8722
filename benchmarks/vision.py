#!/usr/bin/env python3
"""Seconds of the vision tower per megapixel, beside libmtmd's on the same file and pixels.

python -m benchmarks.vision                         # about 2 minutes of CPU; the 8B's width, 3 of its 24 layers

Random weights of the vision-language 8B's shape. Each round encodes every size once with each program, in turns; given
are medians and the ratio of libmtmd's time to ours, with the smallest and largest of the rounds. `f16 keys`: keys and
values of the attention in F16, as libmtmd's; `exact`: in F32, as pytrimode has them on a CPU. Time is nearly
proportional to the number of layers: patches, merger and projector are a small part.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pytrimode import _native
from pytrimode.convert import convert
from tests.support.mtmd import Mtmd
from tests.support.vlm import make_vlm, picture

SIDES = (224, 448, 700)


def model(directory: Path, layers: int, kind: str) -> Path:
    """Return a small text model, with the tower beside it."""
    checkpoint = make_vlm(directory / "model", hidden=1024, layers=layers, heads=16, ffn=4096, dtype="bf16")
    return convert(checkpoint, directory / "model.gguf", "f32", mmproj_type=kind).path


def seconds(run: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--type", default="f16", choices=("f16", "q8_0"))
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="multiples of 28")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = model(Path(name), arguments.layers, arguments.type)
        mmproj = path.with_name("model-mmproj.gguf")
        towers = {
            label: _native.Tower(str(mmproj), n_threads=arguments.threads, exact=exact)
            for label, exact in (("f16 keys", False), ("exact", True))
        }
        n_embd = towers["exact"].n_embd
        with Mtmd(mmproj, path, threads=arguments.threads) as stock:
            for side in arguments.sides:
                image = picture(side, side)
                runs: dict[str, Callable[[], object]] = {"libmtmd": lambda i=image: stock.encode(i, n_embd)}
                for label, tower in towers.items():
                    runs[label] = lambda t=tower, i=image: t.encode(i, 1400)
                times: dict[str, list[float]] = {label: [] for label in runs}
                for number in range(arguments.rounds + 1):
                    for label, run in runs.items():
                        taken = seconds(run)
                        if number > 0:  # the first makes room
                            times[label].append(taken)
                report(side, times)


def report(side: int, times: dict[str, list[float]]) -> None:
    """Print a line for each program."""
    megapixels = side * side / 1e6
    for name, found in times.items():
        ratios = sorted(stock / own for stock, own in zip(times["libmtmd"], found, strict=True))
        line = f"{side}x{side}  {name:<9} {statistics.median(found) / megapixels:7.2f} s per megapixel"
        if name != "libmtmd":
            line += f"  {statistics.median(ratios):.2f}x libmtmd ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(line, flush=True)


if __name__ == "__main__":
    main()
