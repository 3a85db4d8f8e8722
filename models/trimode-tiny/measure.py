#!/usr/bin/env python3
"""Run the held-out prompts through the engine, in every mode: exact answers, tokens per forward, speed against AR.

python models/trimode-tiny/measure.py                     # the shipped model as Q8_0
python models/trimode-tiny/measure.py my.gguf --repeat 5  # another GGUF of the same model

Modes take turns prompt by prompt, so that a busy machine slows all of them; a speed is the ratio of the total times of
one round, and the table shows the median ratio over the rounds with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from pytrimode import TriMode
from pytrimode.files.shipped_model import shipped_gguf

HERE = Path(__file__).resolve().parent
MAX_TOKENS = 250

# name, options of create_chat_completion
SETTINGS = [
    ("ar", {"mode": "ar"}),
    ("diffusion, B 16, threshold 0.9", {"mode": "diffusion", "block_length": 16, "threshold": 0.9}),
    ("self-spec, B 8, no LoRA", {"mode": "self-spec", "block_length": 8, "use_lora": False}),
    ("self-spec, B 8", {"mode": "self-spec", "block_length": 8}),
    ("self-spec, B 16, no LoRA", {"mode": "self-spec", "block_length": 16, "use_lora": False}),
    ("self-spec, B 16", {"mode": "self-spec", "block_length": 16}),
    ("self-spec, B 32, no LoRA", {"mode": "self-spec", "block_length": 32, "use_lora": False}),
    ("self-spec, B 32", {"mode": "self-spec", "block_length": 32}),
]


@dataclass
class Tally:
    """What one setting did over all prompts of one round, or of all rounds."""

    exact: int = 0
    tokens: int = 0
    passes: int = 0
    seconds: float = 0.0
    drafted: int = 0
    accepted: int = 0
    by_task: dict[str, list[int]] = field(default_factory=dict)


def ask(model: TriMode, item: dict, options: dict, tally: Tally) -> None:
    """One prompt under one setting, added to the tally."""
    result = model.create_chat_completion(item["messages"], max_tokens=MAX_TOKENS, temperature=0.0, **options)
    right = result["choices"][0]["message"]["content"].strip() == item["answer"].strip()
    timings = result["timings"]
    tally.exact += right
    tally.by_task.setdefault(item["task"], []).append(int(right))
    tally.tokens += timings["predicted_n"]
    tally.passes += timings["forward_passes"]
    tally.seconds += timings["predicted_ms"] / 1000
    tally.drafted += timings["draft_n"]
    tally.accepted += timings["draft_n_accepted"]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="GGUF file (default: the shipped model as Q8_0)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds over all prompts (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts to use (default: %(default)s)")
    parser.add_argument("-t", "--threads", type=int, help="CPU threads (default: all)")
    args = parser.parse_args()
    items = json.loads((HERE / "heldout.json").read_text())
    items = items[:: max(len(items) // args.prompts, 1)][: args.prompts]

    rounds: list[dict[str, Tally]] = []
    with TriMode(args.model or shipped_gguf(print), n_ctx=1024, n_threads=args.threads) as model:
        for _ in range(args.repeat):
            rounds.append({name: Tally() for name, _ in SETTINGS})
            for item in items:
                for name, options in SETTINGS:
                    ask(model, item, options, rounds[-1][name])

    print(f"{len(items)} held-out prompts, {args.repeat} rounds\n")
    print("| mode | exact answers | tokens per forward | drafts accepted | speed against ar (lowest to highest) |")
    print("|---|---|---|---|---|")
    for name, _ in SETTINGS:
        t = rounds[0][name]
        speeds = [r["ar"].seconds / r["ar"].tokens / (r[name].seconds / r[name].tokens) for r in rounds]
        accepted = f"{100 * t.accepted / t.drafted:.0f} %" if t.drafted else ""
        print(
            f"| {name} | {100 * t.exact / len(items):.1f} % | {t.tokens / t.passes:.2f} | {accepted} "
            f"| {statistics.median(speeds):.2f}x ({min(speeds):.2f} to {max(speeds):.2f}) |"
        )
    print("\n| task | " + " | ".join(name for name, _ in SETTINGS[:2]) + " |\n|---|---|---|")
    for task in rounds[0]["ar"].by_task:
        right = [rounds[0][name].by_task[task] for name, _ in SETTINGS[:2]]
        print(f"| {task} | " + " | ".join(f"{sum(r)}/{len(r)}" for r in right) + " |")


if __name__ == "__main__":
    main()
