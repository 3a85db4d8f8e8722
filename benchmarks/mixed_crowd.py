#!/usr/bin/env python3
"""Do requests of different modes, side by side, get what each mode alone lets one expect?

python -m benchmarks.mixed_crowd                    # two minutes
python -m benchmarks.mixed_crowd --of-each 1 --rounds 9

Two requests in each of ar, diffusion and self-spec run for some seconds, first those of one mode alone, then all six in
one crowd. Alone they tell the rows that a mode brings to a pass and the tokens that it gets from one. Two crowds of ar
and self-spec, of other sizes, tell what passes of so many rows take. From that follows what the mixed crowd should do:
tokens per pass of all modes together, in the time of a pass with the rows of all. Prints what it did against that,
median over rounds with lowest and highest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import common
from pytrimode import TriMode
from pytrimode.files.shipped_model import shipped_checkpoint, shipped_gguf
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.modes import AR, DIFFUSION, SELF_SPEC
from pytrimode.options.sampling import Sampling
from tests.support.decoding import chat_prompts

MODES = (AR, DIFFUSION, SELF_SPEC)
BLOCK_LENGTH, MAX_TOKENS, N_CTX = 16, 160, 8192
CHANNEL = -100
"""Of the events of all requests."""


@dataclass(frozen=True)
class Rate:
    """Of a crowd, per pass."""

    tokens: dict[str, float]
    """By mode."""
    rows: float
    seconds: float


def options_of(mode: str) -> GenerationOptions:
    """Greedy answers of equal length."""
    block_length = None if mode == AR else BLOCK_LENGTH
    return GenerationOptions(
        max_tokens=MAX_TOKENS, mode=mode, block_length=block_length, ignore_eos=True, loop_window=0,
        sampling=Sampling(0.0),
    )  # fmt: skip


def run(model: TriMode, prompts: Sequence[list[int]], crowd: Sequence[str], seconds: float) -> Rate:
    """Let requests in these modes run for so long; one that ends begins again."""
    engine = model.engine
    options = {mode: model.resolve(options_of(mode), N_CTX // 2).engine for mode in set(crowd)}
    running: dict[int, int] = {}

    def begin(place: int) -> None:
        running[engine.submit(prompts[place], options[crowd[place]], CHANNEL)] = place

    for place in range(len(crowd)):
        begin(place)
    tokens, before, end = Counter[str](), engine.times, 0.0
    while not end or time.monotonic() < end:
        for event in engine.wait(CHANNEL):
            place = running[event.request_id]
            tokens[crowd[place]] += len(event.tokens)
            if event.finish_reason:
                del running[event.request_id]
                engine.release(event.request_id)
                begin(place)
                if not end:  # the caches are warm
                    tokens, before, end = Counter(), engine.times, time.monotonic() + seconds
    spent = {key: value - before[key] for key, value in engine.times.items()}
    for request in running:
        engine.release(request)
    passes = spent["passes"]
    return Rate({mode: n / passes for mode, n in tokens.items()}, spent["rows"] / passes, spent["step"] / passes)


def compare(model: TriMode, prompts: Sequence[list[int]], of_each: int, seconds: float) -> tuple[float, float, float]:
    """Tokens per pass, seconds per pass and tokens per second of the mixed crowd, each against what was expected."""
    alone = {mode: run(model, prompts, [mode] * of_each, seconds) for mode in MODES}
    sizes = [run(model, prompts, [AR] * 4 * of_each, seconds), run(model, prompts, [SELF_SPEC] * 3 * of_each, seconds)]
    mixed = run(model, prompts, [mode for mode in MODES for _ in range(of_each)], 2 * seconds)
    known = sorted((rate.rows, rate.seconds) for rate in (*alone.values(), *sizes))
    rows = sum(rate.rows for rate in alone.values())
    expected = float(np.interp(rows, *zip(*known, strict=True)))
    per_pass = sum(mixed.tokens.values()) / sum(sum(rate.tokens.values()) for rate in alone.values())
    return per_pass, mixed.seconds / expected, per_pass * expected / mixed.seconds


def main() -> None:
    """Print the three ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of-each", type=int, default=2, help="requests in each mode (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each crowd (default: %(default)s)")
    args = parser.parse_args()
    with TriMode(shipped_gguf(print), n_ctx=N_CTX, n_threads=1, n_parallel=4 * args.of_each) as model:
        prompts = chat_prompts(model, shipped_checkpoint(), 4 * args.of_each)
        compare(model, prompts, args.of_each, 0.5)  # graphs get ready
        found = [
            compare(model, prompts, args.of_each, args.seconds)
            for _ in common.progress(range(args.rounds), "crowds", args.rounds)
        ]
    for what, values in zip(("tokens per pass", "time per pass", "tokens/s"), zip(*found, strict=True), strict=True):
        print(
            f"mixed crowd, {what}: {statistics.median(values):.3f}x of what its parts predict "
            f"({min(values):.3f} to {max(values):.3f}, {args.rounds} rounds)"
        )


if __name__ == "__main__":
    main()
