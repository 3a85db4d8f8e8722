"""Where the time of a step goes: shares of graph computation, inputs, outputs, graph building and the rest.

    python -m benchmarks.step_overhead MODEL.gguf [ROUNDS]

Greedy requests, alone and eight side by side; medians over rounds with lowest and highest, in percent of the steps.
"""

from __future__ import annotations

import statistics
import sys
from concurrent.futures import ThreadPoolExecutor

from pytrimode import TriMode

PARTS = ("compute", "inputs", "outputs", "build", "rest")
PROMPTS = [f"Sort these numbers: {n}, 3, 9, 1" for n in range(8)]


def shares(model: TriMode, mode: str, n: int) -> dict[str, float]:
    """Of the time of the steps of n requests."""
    before = model.engine.times
    with ThreadPoolExecutor(n) as pool:
        run = lambda p: model.create_completion(  # noqa: E731
            p, mode=mode, max_tokens=100, temperature=0.0, ignore_eos=True, loop_window=0
        )
        list(pool.map(run, PROMPTS[:n]))
    spent = {k: v - before[k] for k, v in model.engine.times.items()}
    spent["rest"] = spent["step"] - sum(spent[k] for k in PARTS[:-1])
    return {part: 100 * spent[part] / spent["step"] for part in PARTS}


def main() -> None:
    """Print a row for each mode and number of requests."""
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    print(f"| mode | requests | {' | '.join(PARTS)} |\n|---|---|{'---|' * len(PARTS)}")
    with TriMode(sys.argv[1], n_ctx=2048, n_threads=1, n_parallel=8) as model:
        for mode in ("ar", "self-spec", "diffusion"):
            for n in (1, 8):
                shares(model, mode, n)  # graphs get ready
                runs = [shares(model, mode, n) for _ in range(rounds)]
                cells = [sorted(run[part] for run in runs) for part in PARTS]
                texts = [f"{statistics.median(c):.1f} ({c[0]:.1f} to {c[-1]:.1f})" for c in cells]
                print(f"| {mode} | {n} | {' | '.join(texts)} |", flush=True)


if __name__ == "__main__":
    main()
