#!/usr/bin/env python3
"""JSON under a grammar in self-spec: does every answer parse, what do drafts save, and what does a row cost?

python -m benchmarks.grammar_json                   # 500 answers: five schemas, greedy and at 0.8, two models
python -m benchmarks.grammar_json --rows            # which of 131,072 tokens may come next, along a text of each schema
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks import common
from tests.support.json_tasks import SCHEMAS, TEMPERATURES, Generation, generations


def main() -> None:
    """Generate and print a table; exit with 1 if an answer is not JSON of its schema."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=250, help="of each model (default: %(default)s)")
    parser.add_argument("-B", "--block-length", type=int, default=16, help="(default: %(default)s)")
    parser.add_argument("--rows", action="store_true", help="the cost of a row, and nothing else")
    args = parser.parse_args()
    if args.rows:
        rows()
        return
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


TEXTS: dict[str, Any] = {
    "flat": {"name": "Ann", "age": 31, "ok": True},
    "list": [{"id": 1, "kind": "a"}, {"id": 22, "kind": "c"}],
    "nested": {"title": "A place", "place": {"at": {"x": 1.5, "y": -2}, "note": "by the sea"}},
    "choice": "green",
    "labels": {"labels": ["one", "two words", "3"]},
}


def rows() -> None:
    """llguidance against llama.cpp's grammar of the same schema, row by row; both look at the whole vocabulary."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf
    from llguidance import LLMatcher
    from llguidance.llamacpp import lltokenizer_from_vocab
    from sampling_cost import make_model

    from pytrimode.formats.constraint import of_schema
    from tests.support.stock_sampler import StockGrammar, stock_vocab

    print(
        "| schema | rows | llama.cpp, ms a row | llguidance, ms a row | llama.cpp / llguidance |\n|---|---|---|---|---|"
    )
    # The vocabulary is that of the model's file, which is made first.
    with tempfile.TemporaryDirectory() as root, make_model(Path(root), 131_072) as model:
        path = Path(model.model_path)
        with stock_vocab(path) as vocab:
            tokenizer = lltokenizer_from_vocab(vocab)
            for name, value in TEXTS.items():
                text = json.dumps(value, separators=(", ", ": "))
                tokens = model.tokenize(text, add_bos=False)
                matcher = LLMatcher(tokenizer, of_schema(SCHEMAS[name], name).lark, log_level=0)
                ours = times(tokens, matcher.compute_bitmask, matcher.consume_token)
                assert not matcher.is_error(), matcher.get_error()
                with closing(StockGrammar(vocab, json_schema_to_gbnf(json.dumps(SCHEMAS[name])))) as stock:
                    theirs = times(tokens, stock.mask(), stock.accept)
                each = [f"{1e3 * statistics.median(t):.3f} ({1e3 * max(t):.3f})" for t in (theirs, ours)]
                print(f"| {name} | {len(tokens)} | {each[0]} | {each[1]} | {sum(theirs) / sum(ours):.0f} |", flush=True)


def times(tokens: list[int], ask: Callable[[], object], accept: Callable[[int], object]) -> list[float]:
    """Seconds of a processor to ask what may come next, at each token of a text."""
    found = []
    for token in tokens:
        begin = time.process_time()
        ask()
        found.append(time.process_time() - begin)
        accept(token)
    return found


def row(answers: list[Generation]) -> str:
    """Return the last columns of the table."""
    good = sum(a.fault is None for a in answers)
    per_forward = sum(a.tokens for a in answers) / max(sum(a.forward_passes for a in answers), 1)
    return f"{len(answers)} | {good} | {per_forward:.2f}"


if __name__ == "__main__":
    main()
