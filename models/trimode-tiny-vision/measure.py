#!/usr/bin/env python3
"""Ask pytrimode's engine about the 200 held-out pictures in every mode: exact answers, tokens per forward.

python models/trimode-tiny-vision/measure.py                # assembled and converted for this run: BF16, tower F16
python models/trimode-tiny-vision/measure.py my.gguf        # another GGUF of it, its mmproj file beside it
python models/trimode-tiny-vision/measure.py --text         # trimode-tiny's 200 prompts instead
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from assemble import CHANGES, HERE, TEXT_MODEL, assemble
from draw import Scene, heldout_scenes

from pytrimode import TriMode
from pytrimode.convert import convert

# name, options of create_chat_completion
SETTINGS = [
    ("ar", {"mode": "ar"}),
    ("diffusion, B 16, threshold 0.9", {"mode": "diffusion", "block_length": 16, "threshold": 0.9}),
    ("self-spec, B 16, no LoRA", {"mode": "self-spec", "block_length": 16, "use_lora": False}),
    ("self-spec, B 16", {"mode": "self-spec", "block_length": 16}),
]


@dataclass
class Prompt:
    """Messages, the right answer, and the task it belongs to."""

    task: str
    messages: list[dict]
    answer: str


@dataclass
class Tally:
    """What one setting did over all prompts."""

    exact: int = 0
    tokens: int = 0
    passes: int = 0
    as_ar: int = 0
    by_task: dict[str, list[bool]] = field(default_factory=dict)


def about(scene: Scene) -> Prompt:
    """The scene's first question."""
    task, question, answer = scene.questions[0]
    content = [{"type": "image", "image": scene.pixels}, {"type": "text", "text": question}]
    return Prompt(task, [{"role": "user", "content": content}], answer)


def of_text() -> list[Prompt]:
    """trimode-tiny's held-out prompts."""
    entries = json.loads((TEXT_MODEL / "heldout.json").read_text())
    return [Prompt(entry["task"], entry["messages"], entry["answer"]) for entry in entries]


def ask(model: TriMode, prompts: list[Prompt], *, wrong: bool) -> dict[str, Tally]:
    """Each prompt in each setting; wrong: print wrong answers of `ar`."""
    tallies = {name: Tally() for name, _ in SETTINGS}
    for prompt in prompts:
        first = None
        for name, options in SETTINGS:
            result = model.create_chat_completion(prompt.messages, max_tokens=250, temperature=0.0, **options)
            text, tally = result["choices"][0]["message"]["content"], tallies[name]
            first = text if first is None else first
            right = text.strip() == prompt.answer
            tally.exact += right
            tally.as_ar += text == first
            tally.by_task.setdefault(prompt.task, []).append(right)
            tally.tokens += result["timings"]["predicted_n"]
            tally.passes += result["timings"]["forward_passes"]
            if wrong and name == "ar" and not right:
                print(f"- {prompt.task}: {text!r}, right is {prompt.answer!r}")
    return tallies


def table(tallies: dict[str, Tally], n: int) -> str:
    """Markdown."""
    lines = ["| mode | exact answers | as ar | tokens per forward |", "|---|---|---|---|"]
    for name, t in tallies.items():
        lines.append(f"| {name} | {t.exact}/{n} = {100 * t.exact / n:.1f} % | {t.as_ar} | {t.tokens / t.passes:.2f} |")
    lines += ["", "| task | " + " | ".join(tallies) + " |", "|---" * (1 + len(tallies)) + "|"]
    for task in next(iter(tallies.values())).by_task:
        scores = (t.by_task[task] for t in tallies.values())
        lines.append(f"| {task} | " + " | ".join(f"{sum(s)}/{len(s)}" for s in scores) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="GGUF file (default: made from this folder)")
    parser.add_argument("--changes", type=Path, default=HERE / CHANGES, help="weights of train.py (default: shipped)")
    parser.add_argument("--text", action="store_true", help="trimode-tiny's held-out prompts, without pictures")
    parser.add_argument("--seed", type=int, default=7, help="of the held-out pictures (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=200, help="how many of them (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th prompt only (default: %(default)s)")
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers of ar")
    parser.add_argument("-t", "--threads", type=int, help="CPU threads (default: all)")
    args = parser.parse_args()
    scenes = heldout_scenes(args.seed, args.pictures)
    prompts = (of_text() if args.text else [about(scene) for scene in scenes])[:: args.every]
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "trimode-tiny-vision.gguf"
        model = args.model or convert(assemble(Path(scratch) / "model", args.changes), made, "bf16").path
        with TriMode(model, n_ctx=1024, n_threads=args.threads) as engine:
            print(table(ask(engine, prompts, wrong=args.wrong), len(prompts)))


if __name__ == "__main__":
    main()
