"""`usage` and `timings` of several answers together."""

from __future__ import annotations

from collections.abc import Sequence

from pytrimode.answers.results import Measured, PromptTokensDetails, Timings, Usage, ratio


def sum_timings(parts: Sequence[Measured]) -> Timings:
    """Return the `timings` of a response with several answers: sums, and the ratios of the sums."""
    if len(parts) == 1:
        return parts[0]["timings"]
    each = [part["timings"] for part in parts]
    cycles = sum(ratio(t["predicted_n"], t["acceptance_length"]) for t in each)
    prompt_n, prompt_ms = sum(t["prompt_n"] for t in each), sum(t["prompt_ms"] for t in each)
    predicted_n, predicted_ms = sum(t["predicted_n"] for t in each), sum(t["predicted_ms"] for t in each)
    passes = sum(t["forward_passes"] for t in each)
    summed: Timings = {
        "cache_n": sum(t["cache_n"] for t in each),
        "prompt_n": prompt_n,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": ratio(prompt_ms, prompt_n),
        "prompt_per_second": ratio(1e3 * prompt_n, prompt_ms),
        "predicted_n": predicted_n,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": ratio(predicted_ms, predicted_n),
        "predicted_per_second": ratio(1e3 * predicted_n, predicted_ms),
        "tokens_per_forward": ratio(predicted_n, passes),
        "forward_passes": passes,
        "fused_passes": sum(t["fused_passes"] for t in each),
        "draft_n": sum(t["draft_n"] for t in each),
        "draft_n_accepted": sum(t["draft_n_accepted"] for t in each),
        "ngram_n": sum(t["ngram_n"] for t in each),
        "ngram_n_accepted": sum(t["ngram_n_accepted"] for t in each),
        "tree_n": sum(t["tree_n"] for t in each),
        "tree_n_accepted": sum(t["tree_n_accepted"] for t in each),
        "acceptance_length": ratio(predicted_n, cycles),
    }
    if any("image_n" in t for t in each):
        summed["image_n"] = sum(t.get("image_n", 0) for t in each)
        summed["image_ms"] = sum(t.get("image_ms", 0.0) for t in each)
    return summed


def sum_usage(parts: Sequence[Measured], choices_per_prompt: int) -> Usage:
    """Return the `usage` of a response: a prompt counts once, however many answers it has (as OpenAI counts).

    `parts`: in the order of `choices`, those of one prompt together.
    """
    each = [part["usage"] for part in parts]
    prompts = each[::choices_per_prompt]
    prompt_tokens = sum(u["prompt_tokens"] for u in prompts)
    completion_tokens = sum(u["completion_tokens"] for u in each)
    details: PromptTokensDetails = {"cached_tokens": sum(u["prompt_tokens_details"]["cached_tokens"] for u in prompts)}
    if any("image_tokens" in u["prompt_tokens_details"] for u in prompts):
        details["image_tokens"] = sum(u["prompt_tokens_details"].get("image_tokens", 0) for u in prompts)
    usage: Usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "forward_passes": sum(u["forward_passes"] for u in each),
        "prompt_tokens_details": details,
    }
    if all("completion_tokens_details" in u for u in each):
        reasoning_tokens = sum(u["completion_tokens_details"]["reasoning_tokens"] for u in each)
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return usage
