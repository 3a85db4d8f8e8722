"""A loop ends a request; whatever merely repeats itself does not (native/decoders/loop_detector.h)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.loop_corpus import KINDS, make_texts
from tokenizers import Tokenizer

from pytrimode import _native

WINDOW, MIN_REPEATS = 900, 4
"""The defaults."""
PERIODS = range(1, 201)
FRESH = 1_000_000
"""Token ids from here on occur in no text, so that a synthetic loop begins exactly where it is said to."""
N_TEXTS = 400

Tokenize = Callable[[str], list[int]]


def needed(period: int, window: int = WINDOW, min_repeats: int = MIN_REPEATS) -> int:
    return max(window, min_repeats * period)


def tail_length(tokens: Sequence[int], period: int) -> int:
    """The longest end of `tokens` in which each token equals the one `period` before it, by the definition."""
    length = min(period, len(tokens))
    while length < len(tokens) and tokens[-length - 1] == tokens[-length - 1 + period]:
        length += 1
    return length


def brute_force(tokens: Sequence[int], window: int, min_repeats: int) -> tuple[int, int]:
    """(period, repeated) as LoopDetector should report them after these tokens."""
    for period in range(1, window // 3 + 1):
        length = tail_length(tokens, period)
        if length >= needed(period, window, min_repeats):
            return period, length - period
    return 0, 0


def first_alarm(tokens: Sequence[int], detector: _native.LoopDetector | None = None) -> int | None:
    """How many tokens had been pushed when it fired."""
    detector = detector or _native.LoopDetector()
    return next((i for i, token in enumerate(tokens, 1) if detector.push(token)), None)


@pytest.fixture(scope="module")
def tokenize(checkpoint_dir: Path) -> Tokenize:
    tokenizer = Tokenizer.from_file(str(checkpoint_dir / "tokenizer.json"))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    return make_texts(N_TEXTS, seed=0)


@pytest.fixture(scope="module")
def ordinary(texts: list[tuple[str, str]], tokenize: Tokenize) -> list[list[int]]:
    """What an output may hold before its loop."""
    return [tokenize(text) for _, text in texts[: len(KINDS)]]


def test_every_period_fires_as_soon_as_the_window_is_nothing_but_repeats(ordinary: list[list[int]]) -> None:
    for period in PERIODS:
        before = ordinary[period % len(ordinary)]
        loop = [FRESH + i for i in range(period)]
        detector = _native.LoopDetector()
        at = first_alarm(before + loop * (needed(period) // period + 2), detector)
        assert (at, detector.period) == (len(before) + needed(period), period)


def test_loops_of_ordinary_tokens_fire_for_every_period(ordinary: list[list[int]]) -> None:
    rng = random.Random(0)
    for period in PERIODS:
        before = rng.choice(ordinary)
        loop = [rng.randrange(2048) for _ in range(period)]
        detector = _native.LoopDetector()
        at = first_alarm(before + loop * (needed(period) // period + 2), detector)
        assert at is not None
        assert period % detector.period == 0, f"{detector.period} found for {period}"
        assert at <= len(before) + needed(period)


def test_one_token_that_differs_in_each_repetition_is_no_loop(ordinary: list[list[int]]) -> None:
    rng = random.Random(1)
    for period in PERIODS:
        tokens = list(ordinary[period % len(ordinary)])
        loop = [rng.randrange(2048) for _ in range(period)]
        for i in range(2 * needed(period) // period):
            copy = list(loop)
            copy[rng.randrange(period)] = FRESH + i
            tokens += copy
        assert first_alarm(tokens) is None, period


def test_a_counter_inside_is_no_loop() -> None:
    for period in PERIODS:
        rest = [FRESH + i for i in range(period - 1)]
        tokens = [token for i in range(2 * needed(period) // period) for token in (i, *rest)]
        assert first_alarm(tokens) is None, period


def test_one_token_less_than_needed_is_no_loop() -> None:
    for period in PERIODS:
        loop = [FRESH + i for i in range(period)] * (needed(period) // period + 1)
        assert first_alarm([1, 2, 3, *loop[: needed(period) - 1], 4, 5, 6]) is None, period


def test_longer_periods_are_not_looked_for() -> None:
    longest = WINDOW // 3
    assert first_alarm(list(range(longest)) * 10) == needed(longest)
    assert first_alarm(list(range(longest + 1)) * 10) is None


def test_texts_that_repeat_themselves_and_end_are_no_loops(texts: list[tuple[str, str]], tokenize: Tokenize) -> None:
    assert len({text for _, text in texts}) >= 300
    assert {kind for kind, _ in texts} == set(KINDS)
    alarms = [(kind, text) for kind, text in texts if first_alarm(tokenize(text)) is not None]
    assert alarms == []


def test_they_are_no_loops_with_a_token_per_byte_either(texts: list[tuple[str, str]]) -> None:
    alarms = [(kind, text) for kind, text in texts if first_alarm(text.encode()) is not None]
    assert alarms == []


def test_the_texts_would_fail_a_hasty_detector(texts: list[tuple[str, str]], tokenize: Tokenize) -> None:
    hasty = [kind for kind, text in texts if first_alarm(tokenize(text), _native.LoopDetector(200, 3)) is not None]
    assert len(hasty) >= 20


def test_the_end_of_a_loop_ends_the_alarm() -> None:
    detector = _native.LoopDetector()
    assert first_alarm([7] * WINDOW, detector) == WINDOW
    assert (detector.period, detector.repeated) == (1, WINDOW - 1)
    assert not detector.push(8)
    assert (detector.period, detector.repeated) == (0, 0)


def test_reset_forgets_everything() -> None:
    detector = _native.LoopDetector()
    for token in [7] * WINDOW:
        detector.push(token)
    detector.reset()
    assert (detector.period, detector.repeated) == (0, 0)
    assert first_alarm([7] * WINDOW, detector) == WINDOW


@pytest.mark.parametrize(("window", "min_repeats", "named"), [(2, 4, "window 2"), (-1, 4, "window -1"), (9, 1, "s 1")])
def test_impossible_options_are_refused(window: int, min_repeats: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        _native.LoopDetector(window, min_repeats)


def test_huge_min_repeats_never_fire() -> None:
    assert first_alarm([7] * 5000, _native.LoopDetector(9, 2**31 - 1)) is None


# Small windows, few different tokens and pieces written several times: about half of such outputs hold a loop.
windows = st.integers(3, 40)
repeats = st.integers(2, 6)
pieces = st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=14), st.integers(1, 12))
outputs = st.lists(pieces, max_size=6).map(lambda parts: [token for piece, n in parts for token in piece * n])


@given(outputs, windows, repeats)
def test_push_equals_the_definition(tokens: list[int], window: int, min_repeats: int) -> None:
    detector = _native.LoopDetector(window, min_repeats)
    for n, token in enumerate(tokens, 1):
        fired = detector.push(token)
        assert (detector.period, detector.repeated) == brute_force(tokens[:n], window, min_repeats)
        assert fired == (detector.period > 0)


@given(outputs, windows, repeats)
def test_never_fires_before_the_minimum(tokens: list[int], window: int, min_repeats: int) -> None:
    detector = _native.LoopDetector(window, min_repeats)
    at = first_alarm(tokens, detector)
    assert at is None or at >= needed(detector.period, window, min_repeats)


@given(outputs, st.lists(st.integers(0, 3), min_size=1, max_size=13), windows, repeats)
def test_trimming_leaves_exactly_one_copy(before: list[int], loop: list[int], window: int, min_repeats: int) -> None:
    loop = loop[: window // 3]
    tokens = before + loop * (needed(len(loop), window, min_repeats) // len(loop) + 1)
    detector = _native.LoopDetector(window, min_repeats)
    for token in tokens:
        detector.push(token)
    period, repeated = detector.period, detector.repeated
    assert period > 0
    kept, dropped = tokens[: len(tokens) - repeated], tokens[len(tokens) - repeated :]
    copy = kept[-period:]
    assert dropped == (copy * len(tokens))[:repeated]
    assert len(kept) == period or kept[-period - 1] != copy[-1], "the repetition began earlier"
    assert not any(period % p == 0 and copy == copy[:p] * (period // p) for p in range(1, period)), "two copies"
