#!/usr/bin/env python3
"""JSON schemas: is any accepted instance invalid, is any answer not of its schema, and how long does a schema take?

python -m benchmarks.schema_conformance             # the JSON Schema Test Suite, then 100 pydantic models in each mode

The suite is that in the source distribution of `jsonschema` (MIT), which pip downloads.
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import common
from pytrimode import TriMode
from pytrimode.formats.constraint import of_schema
from tests.support.byte_matcher import ByteMatcher
from tests.support.json_models import MAX_TOKENS, fault, models

MODES: dict[str, dict[str, Any]] = {
    "ar": {"mode": "ar"},
    "self-spec": {"mode": "self-spec", "block_length": 8},
    "diffusion": {"mode": "diffusion", "block_length": 8},
}


def main() -> None:
    """Run everything and print tables; exit with 1 if anything is invalid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, help="jsonschema-*.tar.gz (default: pip downloads it)")
    parser.add_argument("--models", type=int, default=100, help="pydantic models (default: %(default)s)")
    args = parser.parse_args()
    invalid = test_suite(args.suite)
    tiny, _ = common.tiny_model()
    with tiny, common.random_model() as random:
        first_token(tiny)
        for name, model in (("trimode-tiny", tiny), ("random weights", random)):
            invalid += generated(name, model, args.models)
    print("", *invalid, sep="\n")
    sys.exit(1 if invalid else 0)


def test_suite(path: Path | None) -> list[str]:
    """What the constraint of a schema of draft 2020-12 accepts although it is invalid."""
    counts: collections.Counter[str] = collections.Counter()
    invalid = []
    for name, case in cases(path):
        try:
            matcher = ByteMatcher(of_schema(case["schema"], "schema"))
        except ValueError:
            counts["schemas refused"] += 1
            continue
        counts["schemas kept"] += 1
        for instance in case["tests"]:
            accepted = matcher.accepts(json.dumps(instance["data"], ensure_ascii=False))
            counts[f"{'valid' if instance['valid'] else 'invalid'}, {'accepted' if accepted else 'refused'}"] += 1
            if accepted and not instance["valid"]:
                invalid.append(f"{name}, {case['description']}, {instance['description']}: {instance['data']!r}")
    print("| JSON Schema Test Suite, draft 2020-12 | |", "|---|---|", sep="\n")
    for what in sorted(counts):
        print(f"| {what} | {counts[what]} |")
    return invalid


def cases(path: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Schemas with their instances, and the files' names."""
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "jsonschema"]
            subprocess.run([*command, "jsonschema", "-d", folder], check=True)
            path = next(Path(folder).glob("jsonschema-*.tar.gz"))
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                if "/json/tests/draft2020-12/" not in member.name or "/optional/" in member.name:
                    continue
                if member.name.endswith(".json") and (file := archive.extractfile(member)):
                    for case in json.load(file):
                        yield Path(member.name).stem, case


def first_token(model: TriMode) -> None:
    """Print the time to the first token with a new schema of 200 properties, and with none."""
    model.prepare_grammars()
    found: dict[str, list[float]] = {"a new schema": [], "the same again": [], "none": []}
    for i in range(7):
        parts = {f"p{j}": {"type": "integer", "minimum": i, "maximum": 1000 + j} for j in range(200)}
        schema = {"type": "object", "properties": parts, "required": list(parts)}
        for name in found:
            begin = time.perf_counter()
            wanted = None if name == "none" else {"type": "json_object", "schema": schema}
            model.create_chat_completion([{"role": "user", "content": "Hi"}], response_format=wanted, max_tokens=1)
            found[name].append(1e3 * (time.perf_counter() - begin))
    print("\n| time to the first token, schema of 200 properties | ms (lowest to highest) |", "|---|---|", sep="\n")
    for name, times in found.items():
        print(f"| {name} | {statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f}) |")


def generated(name: str, model: TriMode, n: int) -> list[str]:
    """Answers to pydantic models in each mode that are not of their model."""
    invalid = []
    print(f"\n| {name} | complete | of their model | tokens per forward |", "|---|---|---|---|", sep="\n")
    for mode, options in MODES.items():
        complete = good = tokens = passes = 0
        for i, schema in enumerate(common.progress(models(0, n), f"{name}, {mode}", n)):
            wanted = {"type": "json_schema", "json_schema": {"schema": schema.model_json_schema()}}
            result: Any = model.create_chat_completion(
                [{"role": "user", "content": "Hello"}], response_format=wanted, max_tokens=MAX_TOKENS, seed=i,
                temperature=0.8 * (i % 2), **options,
            )  # fmt: skip
            choice, timings = result["choices"][0], result["timings"]
            tokens, passes = tokens + timings["predicted_n"], passes + timings["forward_passes"]
            if choice["finish_reason"] != "stop" or "loop" in str(choice.get("finish_details")):
                continue
            complete += 1
            problem = fault(schema, choice["message"]["content"])
            good += problem is None
            invalid += [f"{name}, {mode}, {i}: {problem}"] if problem else []
        print(f"| {mode} | {complete} of {n} | {good} | {tokens / max(passes, 1):.2f} |", flush=True)
    return invalid


if __name__ == "__main__":
    main()
