"""Does the device compute what the CPU computes: doctor, logits by cache type, greedy answers, memory and traffic."""

from __future__ import annotations

from gpu_suite.models import TINY, model_file
from gpu_suite.record import Context
from second_device import CACHE_TYPES, Comparison

MAX_TOKENS = 40


def doctor(context: Context) -> None:
    """Record what `pytrimode doctor` says, its self-test of every device included."""
    from pytrimode.checks.doctor import diagnose

    for finding in diagnose():
        context.record(f"doctor: {finding.name}", ok=finding.ok, found=finding.found, advice=finding.advice)


def logits(context: Context) -> None:
    """Causal, block and draft rows with F16 weights, for each type of the cache."""
    comparison = _comparison(context, "f16")
    cache_types = ("f16",) if context.small else CACHE_TYPES
    for row in [*comparison.logits(cache_types), comparison.without_kernel()]:
        context.record(row.what, ok=row.ok, found=row.found)


def memory_and_traffic(context: Context) -> None:
    """Plan against allocation, and bytes that cross the bus."""
    comparison = _comparison(context, "q8_0")
    traffic = [] if context.small else comparison.traffic(prompts(context, 1)[0])
    for row in [*comparison.memory(), *traffic]:
        context.record(row.what, ok=row.ok, found=row.found)


def answers(context: Context) -> None:
    """Greedy answers of all modes: how many are those of the CPU, and whether the others part at a near-tie."""
    comparison = _comparison(context, "q8_0")
    for row in comparison.answers(prompts(context, 3 if context.small else 50), 8 if context.small else MAX_TOKENS):
        context.record(row.what, ok=row.ok, found=row.found)


def prompts(context: Context, n: int) -> list[list[int]]:
    """Held-out prompts of the shipped checkpoint as tokens."""
    import json

    from pytrimode import _native
    from pytrimode.files.shipped_model import shipped_checkpoint

    model = _native.Model(str(model_file(context, TINY, "q8_0")), vocab_only=True)
    entries = json.loads((shipped_checkpoint() / "heldout.json").read_text())
    texts = [entry["messages"][-1]["content"] for entry in entries[:n]]
    return [
        model.tokenize(f"<|im_start|>user\n{t}<|im_end|>\n<|im_start|>assistant\n<think></think>".encode(), True, True)
        for t in texts
    ]


def _comparison(context: Context, outtype: str) -> Comparison:
    comparison = Comparison(model_file(context, TINY, outtype), [context.device])
    if context.small:
        comparison.offloads = [comparison.whole]
    return comparison
