"""The choice of the draft length on simulated machines: t(rows) of several shapes, drafts accepted at given rates."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from pytrimode._native import Acceptance, DraftLength, PassCost

MAX_LENGTH = 32
NOISE = 0.05  # standard deviation of a pass, as a share of its time

MACHINES: dict[str, Callable[[float], float]] = {
    "flat": lambda rows: 1.0 + 0.004 * rows,
    "linear, slow": lambda rows: 1.0 + 0.05 * rows,
    "linear": lambda rows: 1.0 + 0.15 * rows,
    "linear, steep": lambda rows: 1.0 + 0.5 * rows,
    "steps of 8": lambda rows: 0.5 + math.ceil(rows / 8),
    "steps of 16": lambda rows: 0.3 + math.ceil(rows / 16),
    "two cores": lambda rows: 18 + 11 * rows**0.93,  # 26 layers, hidden 1024, in milliseconds
    "then steep": lambda rows: 1.0 if rows <= 12 else 1.0 + 0.4 * (rows - 12),
}
PROFILES: dict[str, Callable[[int], float]] = {
    "nearly all": lambda position: 0.99,
    "published": lambda position: 0.936 if position < 8 else 0.955 if position < 16 else 0.974,
    "falling": lambda position: 0.95 - 0.02 * position,
    "half": lambda position: 0.5,
    "hardly any": lambda position: 0.08,
}


def expected_tokens(length: int, accepted: Callable[[int], float]) -> float:
    return sum(math.prod(accepted(i) for i in range(1, n + 1)) for n in range(length))


def best_rate(time: Callable[[float], float], accepted: Callable[[int], float], rows: float, tokens: float) -> float:
    """Tokens per second of all requests with the best fixed length out of all there are."""
    return max(
        (expected_tokens(n, accepted) / (1 if n == 1 else 2) + tokens) / time(n + rows)
        for n in range(1, MAX_LENGTH + 1)
    )


def simulate(
    time: Callable[[float], float],
    accepted: Callable[[int], float],
    *,
    seconds: float,
    rows: float = 0.0,
    tokens: float = 0.0,
    seed: int = 0,
) -> tuple[float, list[int]]:
    """Expected tokens per second over a whole run, warm-up and trials included, and the lengths chosen."""
    rng = random.Random(seed)
    chooser = DraftLength(MAX_LENGTH)
    request = chooser.new_request()
    now = emitted = 0.0
    lengths = []
    while now < seconds:
        length = chooser.choose(request, rows, tokens)
        lengths.append(length)
        n_passes = 1 if length == 1 else 2
        for _ in range(n_passes):
            took = time(length + rows)
            now += took
            measured = took * math.exp(rng.gauss(0, NOISE)) * (8 if rng.random() < 0.01 else 1)
            chooser.observe_pass(round(length + rows), measured)
        emitted += expected_tokens(length, accepted) + n_passes * tokens
        n_accepted = next((i for i in range(length - 1) if rng.random() >= accepted(i + 1)), length - 1)
        if length > 1:
            request.observe(length - 1, n_accepted)
            chooser.observe_cycle(length - 1, n_accepted)
    return emitted / now, lengths


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("machine", MACHINES)
def test_choice_is_within_3_percent_of_the_best_fixed_length(machine: str, profile: str) -> None:
    time, accepted = MACHINES[machine], PROFILES[profile]
    reached, _ = simulate(time, accepted, seconds=4000 * time(1))
    assert reached >= 0.97 * best_rate(time, accepted, 0, 0)


@pytest.mark.parametrize("machine", MACHINES)
def test_under_load_the_length_is_the_best_for_all_requests_together(machine: str) -> None:
    time, accepted = MACHINES[machine], PROFILES["published"]
    rows, tokens = 28.0, 14.0  # seven others, each with four rows and two tokens in a pass
    reached, _ = simulate(time, accepted, seconds=2000 * time(rows), rows=rows, tokens=tokens)
    assert reached >= 0.97 * best_rate(time, accepted, rows, tokens)


def test_load_shortens_drafts_where_rows_cost() -> None:
    time, accepted = MACHINES["then steep"], PROFILES["published"]
    _, alone = simulate(time, accepted, seconds=1000)
    _, crowd = simulate(time, accepted, seconds=10_000, rows=28, tokens=14)
    assert alone[-1] > 8
    assert crowd[-1] == 1


def test_trials_lose_a_bounded_share_where_plain_ar_is_best() -> None:
    time = MACHINES["linear, steep"]
    reached, lengths = simulate(time, PROFILES["hardly any"], seconds=4000 * time(1))
    assert reached >= 0.98 / time(1)
    assert max(lengths) > 1  # but it keeps looking


def test_length_follows_the_text() -> None:
    time = MACHINES["linear, slow"]
    chooser = DraftLength(MAX_LENGTH)
    request = chooser.new_request()
    for rows in (1, 8, 16, 32):
        for _ in range(5):
            chooser.observe_pass(rows, time(rows))
    for _ in range(100):
        request.observe(31, 31)
    assert chooser.best(request) == 32
    for _ in range(100):
        request.observe(31, 0)
    assert chooser.best(request) == 1


def test_cost_follows_the_machine_for_lengths_that_are_not_seen_too() -> None:
    cost = PassCost()
    for _ in range(20):
        for rows in (1, 8, 16):
            cost.observe(rows, 1 + rows)
    for _ in range(200):
        cost.observe(8, 3 * 9)  # three times as slow, by a longer context or another program
    assert cost.seconds(8) == pytest.approx(27, rel=0.05)
    assert 2 * 17 < cost.seconds(16) < 3.2 * 17


def test_cost_rises_and_lies_on_lines_between_what_was_seen() -> None:
    cost = PassCost()
    for rows, seconds in ((1, 1.0), (8, 3.0), (12, 2.0), (16, 5.0)):
        cost.observe(rows, seconds)
    assert cost.seconds(8) == cost.seconds(12) == pytest.approx(2.5)
    assert cost.seconds(14) == pytest.approx((2.5 + 5.0) / 2)
    assert cost.seconds(20) == pytest.approx(5.0 + 4 * 2.5 / 4)
    assert [rows for rows, _ in cost.table()] == [1, 8, 12, 16]


def test_a_single_slow_pass_moves_little() -> None:
    cost = PassCost()
    for _ in range(10):
        cost.observe(1, 1.0)
    cost.observe(1, 100.0)
    assert cost.seconds(1) < 1.1
    cost.observe(8, 50.0)  # the first one of its length, slow for a reason of its own
    cost.observe(8, 2.0)
    assert cost.seconds(8) == pytest.approx(2.0, rel=0.1)


def test_published_acceptance_gives_the_published_tokens_per_cycle() -> None:
    acceptance = Acceptance(Acceptance.published(), 60)
    published = {4: 3.67, 8: 6.36, 16: 10.2, 32: 15.5}
    assert {n: acceptance.tokens(n) for n in published} == pytest.approx(published, rel=0.02)


def test_acceptance_counts_a_position_only_where_it_was_reached() -> None:
    acceptance = Acceptance([0.5] * 8, 1e6)
    for _ in range(500):
        acceptance.observe(4, 4)
        acceptance.observe(4, 1)
    rates = acceptance.rates
    assert rates[0] == pytest.approx(1.0, abs=0.01)
    assert rates[1] == pytest.approx(0.5, abs=0.01)
    assert rates[2] == pytest.approx(1.0, abs=0.02)
    assert 0.5 < rates[7] < 1.0  # never reached: the prior, moved by what the others tell


def test_new_request_starts_from_the_rates_of_those_before() -> None:
    chooser = DraftLength(MAX_LENGTH)
    for _ in range(300):
        chooser.observe_cycle(7, 7)
    assert chooser.new_request().tokens(8) > 7.9 > Acceptance(Acceptance.published(), 60).tokens(8)


@pytest.mark.parametrize(("prior", "memory"), [([], 60.0), ([1.5], 60.0), ([0.5], 0.0)])
def test_impossible_priors_are_refused(prior: list[float], memory: float) -> None:
    with pytest.raises(ValueError, match="acceptance"):
        Acceptance(prior, memory)
