"""Is greedy self-spec the text of greedy ar, both on the device: share of equal texts, where they part, at what gap."""

from __future__ import annotations

import statistics
from typing import Any

from gpu_suite.correctness import prompts
from gpu_suite.engines import Engines, submit
from gpu_suite.models import TINY
from gpu_suite.record import Context

BLOCKS = (4, 8, 16, 32)
EXACT_ROWS = (0, 32, 8, 16)
"""0: rows as they come. Those that take all block lengths first."""
SMALL_EXACT_ROWS = (0, 8)


def self_spec_is_ar(context: Context, shape: str, type: str, n_prompts: int, n_tokens: int) -> None:
    """Record a row for each block length, with and without exact rows. A random model has many near-ties."""
    engines = Engines(context, shape, type)
    asked = prompts(context, n_prompts)
    if shape != TINY:
        asked = [[token % engines.n_vocab for token in prompt] for prompt in asked]
    for exact in SMALL_EXACT_ROWS if context.small else EXACT_ROWS:
        engine = engines.engine(n_ctx=2048, exact_rows=exact)
        texts = [_text(engine, prompt, n_tokens, mode="ar") for prompt in asked]
        passes = sum(n for _, n, _ in texts)
        context.record(
            "ar", shape=shape, type=type, exact_rows=exact, ms_per_pass=1e3 * sum(s for *_, s in texts) / max(passes, 1)
        )
        for block in BLOCKS:
            if exact and block > exact:
                continue
            _compare(
                context,
                engine,
                asked,
                texts,
                n_tokens,
                {"shape": shape, "type": type, "exact_rows": exact, "block": block},
            )
            if context.left() <= 0:
                return


def _compare(context: Context, engine: Any, asked: list, texts: list, n_tokens: int, names: dict[str, Any]) -> None:
    same, places, gaps, n = 0, [], [], 0
    for prompt, (text, *_) in zip(asked, texts, strict=True):
        found, *_ = _text(engine, prompt, n_tokens, mode="self-spec", block_length=names["block"])
        n += 1
        same += found == text
        if found != text:
            at = next(
                (i for i, (a, b) in enumerate(zip(text, found, strict=False)) if a != b), min(len(text), len(found))
            )
            places.append(at)
            gaps.append(_gap(engine, [*prompt, *text[:at]]))
        if context.left() <= 0:
            break
    context.record(
        "self-spec = ar",
        **names,
        n=n,
        equal=same,
        part_at=statistics.median(places) if places else None,
        gap_largest=max(gaps, default=None),
        gap_median=statistics.median(gaps) if gaps else None,
    )


def _text(engine: Any, prompt: list[int], n_tokens: int, **options: Any) -> tuple[list[int], int, float]:
    """Tokens, passes, seconds behind the prefill. From an empty cache: cells that lie elsewhere are summed elsewise."""
    engine.clear_cache()
    event = engine.wait_to_end(submit(engine, prompt, max_tokens=n_tokens, loop_window=0, **options))
    return event.tokens, event.stats.forward_passes, event.stats.generation_seconds


def _gap(engine: Any, tokens: list[int]) -> float:
    """Of the two highest logits behind these tokens, as a share of the row's range."""
    row = engine.logits(tokens, first=len(tokens) - 1)[-1]
    row.sort()
    return float((row[-1] - row[-2]) / (row[-1] - row[0]))
