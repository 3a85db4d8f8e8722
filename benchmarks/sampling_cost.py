#!/usr/bin/env python3
"""What sampling costs per token at a vocabulary of 131,072: against greedy decoding of the same model.

python -m benchmarks.sampling_cost                  # mode ar; a Markdown table
python -m benchmarks.sampling_cost --mode self-spec -B 8

The model is synthetic and so narrow that its forward pass is short; its tokens have texts of usual lengths. Settings
take turns in every round; the table shows the median over the rounds, with lowest and highest, of the CPU time that a
setting takes more per token than greedy decoding in the same round.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import string
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import common
from pytrimode import TriMode
from pytrimode.convert import convert
from pytrimode.formats.response_format import grammar_of
from pytrimode.options.sampling import Sampling
from tests.support.decoding import decode
from tests.support.synthetic import N_SPECIAL, byte_alphabet, make_checkpoint

PROMPT = [1, *range(300, 316)]
EVERYTHING: dict[str, Any] = {
    "temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.95, "repeat_penalty": 1.1,
    "frequency_penalty": 0.1, "presence_penalty": 0.1, "dry_multiplier": 0.8,
    "logit_bias": dict.fromkeys(range(1000, 1100), 1.0),
}  # fmt: skip
RECORD = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
# Lines of a kind that hardly any token breaks, and records that few tokens begin: the ends of what a grammar costs.
LINES = 'root ::= ([^\\n\\x00]* "\\n"){200}'
RECORDS = grammar_of({"type": "json_object", "schema": {"type": "array", "items": RECORD, "minItems": 200}})
SETTINGS: dict[str, dict[str, Any]] = {
    "temperature 0 (greedy)": {"temperature": 0.0},
    "temperature 0.8, defaults": {"temperature": 0.8},
    "temperature 0.8, defaults, coupled": {"temperature": 0.8, "sampler": "coupled"},
    "temperature 0.8, top-k off": {"temperature": 0.8, "top_k": 0},
    "temperature 0.8, no truncation": {"temperature": 0.8, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "temperature 0.8, no truncation, coupled": {
        "temperature": 0.8, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "sampler": "coupled",
    },
    "all options": EVERYTHING,
    "all options, top-k and typical off": EVERYTHING | {"top_k": 0, "typical_p": 1.0},
    "all options, top-k off": EVERYTHING | {"top_k": 0},
    "greedy, grammar: any lines": {"temperature": 0.0, "grammar": LINES},
    "temperature 0.8, grammar: any lines": {"temperature": 0.8, "grammar": LINES},
    "greedy, grammar: JSON records": {"temperature": 0.0, "grammar": RECORDS},
    "temperature 0.8, grammar: JSON records": {"temperature": 0.8, "grammar": RECORDS},
}  # fmt: skip


def make_model(root: Path, vocab: int) -> TriMode:
    """Random weights, and tokens of random letters with and without a blank before them."""
    source = make_checkpoint(root / "model", hidden=64, layers=1, heads=2, kv_heads=1, ffn=64, vocab=vocab)
    data = json.loads((source / "tokenizer.json").read_text())
    rng, space = random.Random(0), byte_alphabet()[ord(" ")]
    known = data["model"]["vocab"]
    token = max(known.values()) + 1
    while token < vocab:
        text = rng.choice(["", space]) + "".join(rng.choices(string.ascii_letters, k=rng.randint(2, 9)))
        if text not in known:
            known[text] = token
            token += 1
    (source / "tokenizer.json").write_text(json.dumps(data))
    return TriMode(convert(source, root / "model.gguf", "q8_0").path, n_ctx=1024, n_threads=1)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, default=131_072, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="(default: %(default)s)")
    parser.add_argument("-n", "--tokens", type=int, default=48, help="of each request (default: %(default)s)")
    parser.add_argument("-m", "--mode", choices=["ar", "self-spec"], default="ar")
    parser.add_argument("-B", "--block-length", type=int, default=8, help="in self-spec (default: %(default)s)")
    args = parser.parse_args()
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as root, make_model(Path(root), args.vocab) as model:
        assert model.n_vocab == args.vocab > N_SPECIAL
        for seed in common.progress(range(args.rounds + 1), f"{len(SETTINGS)} settings", args.rounds + 1):
            rounds.append({name: milliseconds(model, Sampling(seed=seed, **o), args) for name, o in SETTINGS.items()})
    rounds = rounds[1:]  # the first one warms up
    greedy = next(iter(SETTINGS))
    print(f"vocabulary {args.vocab}, mode {args.mode}, {args.rounds} rounds of {args.tokens} tokens, 1 thread\n")
    print("| setting | ms per token | ms more than greedy (lowest to highest) |")
    print("|---|---|---|")
    for name in SETTINGS:
        more = [r[name] - r[greedy] for r in rounds]
        extra = f"{statistics.median(more):.2f} ({min(more):.2f} to {max(more):.2f})" if name != greedy else ""
        print(f"| {name} | {statistics.median(r[name] for r in rounds):.2f} | {extra} |")


def milliseconds(model: TriMode, sampling: Sampling, args: argparse.Namespace) -> float:
    """CPU time per emitted token, with a short prefill that is the same for all settings."""
    begin = time.process_time()
    _, stats = decode(
        model, PROMPT, mode=args.mode, max_tokens=args.tokens, block_length=args.block_length, ignore_eos=True,
        sampling=sampling,
    )  # fmt: skip
    return 1e3 * (time.process_time() - begin) / stats.completion_tokens


if __name__ == "__main__":
    main()
