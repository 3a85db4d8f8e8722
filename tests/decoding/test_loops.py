"""A request that loops ends, in every mode at the same token, and says so."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
from support.decoding import decode

from pytrimode import MODES, TriMode
from pytrimode._native import LoopDetector
from pytrimode.options.sampling import Sampling

PROMPT = "Hello"
WINDOW = 120


def looping(model: TriMode, period: int, **options: Any) -> Any:
    """A completion that cannot but repeat a text of `period` digits, each of which is a token."""
    digits = "".join(str(i * i % 10) if i % 7 else str(i // 7 % 10) for i in range(1, period)) + "x"
    grammar = f'root ::= "{digits}" root'
    options = {"temperature": 0.0, "max_tokens": 1000, "grammar": grammar, "loop_window": WINDOW} | options
    return model.create_completion(PROMPT, **options)


@pytest.mark.slow
@pytest.mark.parametrize("period", [1, 2, 3, 7, 40, 41, 100, 200])
def test_a_loop_ends_the_request_at_the_same_token_in_ar_and_self_spec(model: TriMode, period: int) -> None:
    # Only periods up to a third of the window are looked for.
    window = max(WINDOW, 3 * period)
    ar, spec = (looping(model, period, mode=mode, loop_window=window) for mode in ("ar", "self-spec"))
    choice = spec["choices"][0]
    assert choice == ar["choices"][0]
    assert choice["finish_reason"] == "stop"
    details = choice["finish_details"]
    assert details["type"] == "loop"
    assert details["period"] == period
    assert len(choice["text"]) == max(window, 4 * period)
    copies = choice["text"][:period] * (len(choice["text"]) // period + 1)
    assert copies.startswith(choice["text"])
    trimmed = looping(model, period, mode="ar", loop_window=window, trim_loop=True)["choices"][0]["text"]
    assert trimmed == choice["text"][: len(trimmed)]
    assert len(trimmed) == len(choice["text"]) - details["repeated_tokens"] == period


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_ends_where_the_detector_fires(random_gguf: Path, mode: str) -> None:
    fired = 0
    with TriMode(random_gguf, n_ctx=256, n_threads=1) as random_model:
        for seed in range(12):
            options: dict[str, Any] = {
                "mode": mode, "max_tokens": 60, "ignore_eos": True, "block_length": 8, "threshold": 0.0,
                "sampling": Sampling(temperature=1.0, seed=seed, logit_bias={300: 7.0, 301: 7.0}),
            }  # fmt: skip
            free, _ = decode(random_model, [1, 300 + seed], loop_window=0, **options)
            ended, stats = decode(random_model, [1, 300 + seed], loop_window=3, loop_min_repeats=2, **options)
            detector = LoopDetector(3, 2)
            end = next((i + 1 for i, token in enumerate(free) if detector.push(token)), None)
            assert ended == free[:end]
            assert (stats.loop_period, stats.loop_repeated) == (detector.period, detector.repeated)
            fired += end is not None
    assert fired, "the test needs outputs that repeat"


def test_without_loop_detection_it_goes_on(model: TriMode) -> None:
    whole = looping(model, 3, loop_window=0, max_tokens=400)["choices"][0]
    assert whole["finish_details"] == {"type": "length"}
    assert len(whole["text"]) == 400


def test_min_repeats_counts_for_long_periods(model: TriMode) -> None:
    for repeats in (3, 6):
        text = looping(model, 40, mode="ar", loop_min_repeats=repeats)["choices"][0]["text"]
        assert len(text) == max(WINDOW, 40 * repeats)


def test_impossible_loop_options(model: TriMode) -> None:
    for options, message in (({"loop_window": 2}, "loop_window 2"), ({"loop_min_repeats": 1}, "loop_min_repeats 1")):
        with pytest.raises(ValueError, match=message):
            model.create_completion(PROMPT, **options)  # type: ignore[arg-type]


def test_a_window_that_the_context_cannot_hold_costs_nothing(model: TriMode) -> None:
    """It took 12 bytes, and a comparison at each token, for every period up to a third of it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plain: Any = model.create_completion(PROMPT, max_tokens=8, temperature=0.0, loop_window=0)
    for window in (model.n_ctx + 1, 1 << 28):
        wide: Any = model.create_completion(PROMPT, max_tokens=8, temperature=0.0, loop_window=window)
        assert wide["choices"] == plain["choices"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10, "KiB"
