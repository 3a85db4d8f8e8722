"""The choice of the draft length on simulated machines: t(rows) of several shapes, drafts accepted at given rates."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from pytrimode._native import Acceptance, Cycle, DraftLength, PassCost

MAX_LENGTH = 32
N_PASSES = 3000
MAX_ROWS = 256
"""Of a fused pass."""
TOLD_AFTER_REJECTION = 0.4
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


def expected_tokens(length: int, accepted: Callable[[int], float], first: int = 1) -> float:
    """Of a cycle whose first draft is at position `first` of its block."""
    return sum(math.prod(accepted(first + i) for i in range(n)) for n in range(length))


def ends_behind(n: int, n_draft: int, accepted: Callable[[int], float]) -> float:
    """The probability that n of the drafts from position 2 on are accepted, and no more."""
    all_of_them = math.prod(accepted(2 + i) for i in range(n))
    return all_of_them if n == n_draft else all_of_them * (1 - accepted(2 + n))


def fused_rate(
    length: int, n_groups: int, time: Callable[[float], float], accepted: Callable[[int], float], rows: float,
    tokens: float,
) -> float:  # fmt: skip
    """Tokens per second of fused cycles with groups of `length` behind all drafts and where else they help most."""
    n_draft = length - 1
    rejected = sorted((ends_behind(n, n_draft, accepted) for n in range(n_draft)), reverse=True)[: n_groups - 1]
    again = ends_behind(n_draft, n_draft, accepted) * accepted(1) + sum(rejected) * TOLD_AFTER_REJECTION
    passes = accepted(1) / (1 - again)  # with a draft, for each without one
    seconds = time(1 + length + rows) + passes * time(length * (1 + n_groups) + rows)
    return (1 + passes * expected_tokens(length, accepted, 2) + (1 + passes) * tokens) / seconds


def best_rate(
    time: Callable[[float], float], accepted: Callable[[int], float], rows: float, tokens: float, fusing: str = "never"
) -> float:
    """Tokens per second of all requests with the best fixed way out of all there are."""
    rates = [
        (expected_tokens(n, accepted) / (1 if n == 1 else 2) + tokens) / time(n + rows)
        for n in range(1, MAX_LENGTH + 1)
    ]
    if fusing != "never":
        rates += [
            fused_rate(n, k, time, accepted, rows, tokens)
            for n in range(2, MAX_LENGTH + 1)
            for k in range(1, n + 1)
            if n * (1 + k) <= MAX_ROWS
        ]
    return max(rates)


class Machine:
    """Runs cycles of one request as the engine does, with passes that take simulated time."""

    def __init__(
        self, time: Callable[[float], float], accepted: Callable[[int], float], rows: float, tokens: float, seed: int
    ) -> None:
        self._time, self._accepted, self._rows, self._tokens = time, accepted, rows, tokens
        self._rng = random.Random(seed)
        self.chooser = DraftLength(MAX_LENGTH)
        self.request = self.chooser.new_request()
        self.now = self.emitted = 0.0
        self.n_passes = 0
        self._draft = self._unseen = 0

    def run(self, n_passes: int, fusing: str) -> list[Cycle]:
        """The cycles chosen in so many passes."""
        cycles: list[Cycle] = []
        end = self.n_passes + n_passes
        while self.n_passes < end:
            cycle = self.chooser.choose(self.request, self._rows, self._tokens, fusing)
            cycles.append(cycle)
            if cycle.fused:
                for _ in range(2 if self._draft == 0 else 1):  # what was begun is carried through
                    self._fused(cycle.length)
                    if self._draft == 0:
                        break
            else:
                self._two_passes(cycle.length)
        return cycles

    def _pass(self, rows: float) -> None:
        took = self._time(rows + self._rows)
        self.now += took
        self.emitted += self._tokens
        self.n_passes += 1
        measured = took * math.exp(self._rng.gauss(0, NOISE)) * (8 if self._rng.random() < 0.01 else 1)
        self.chooser.observe_pass(round(rows + self._rows), measured)

    def _verified(self, n_draft: int, first: int, unseen: int) -> int:
        """Tokens in expectation; returns how many drafts were accepted this time."""
        self.emitted += expected_tokens(n_draft + 1, self._accepted, first)
        n = next((i for i in range(n_draft) if self._rng.random() >= self._accepted(first + i)), n_draft)
        if n_draft:
            self._learn(first - 1 + n_draft, first - 1 + n, unseen)
        return n

    def _learn(self, drafted: int, accepted: int, unseen: int = 0) -> None:
        self.request.observe(drafted, accepted, unseen)
        self.chooser.observe_cycle(drafted, accepted, unseen)

    def _two_passes(self, length: int) -> None:
        if self._draft:
            length = self._draft + 1
        elif length > 1:
            self._pass(length)
        self._pass(length)
        self._verified(length - 1, 2 if self._draft else 1, self._unseen)
        self._draft = self._unseen = 0

    def _fused(self, length: int) -> None:
        groups = dict(self.chooser.branches(self.request, length, self._draft, 1, self._rows, self._tokens))
        self._pass(1 + self._draft + sum(groups.values()))
        n_draft, self._draft = self._draft, 0
        accepted = self._verified(n_draft, 2, self._unseen)
        if accepted not in groups:
            return
        rejected = accepted < n_draft
        told = self._rng.random() < (TOLD_AFTER_REJECTION if rejected else self._accepted(1))
        if rejected:
            self.chooser.observe_rejection(told)
        elif not told:
            self._learn(groups[accepted], 0)
        if told:
            self._draft, self._unseen = groups[accepted] - 1, int(rejected)


def simulate(
    machine: str, profile: str, fusing: str, load: tuple[float, float] = (0.0, 0.0), n_passes: int = N_PASSES
) -> tuple[float, float, list[Cycle]]:
    """Tokens per second over the first half, warm-up and trials included, and over the second; the cycles chosen."""
    run = Machine(MACHINES[machine], PROFILES[profile], *load, seed=0)
    cycles = run.run(n_passes // 2, fusing)
    emitted, now = run.emitted, run.now
    cycles += run.run(n_passes // 2, fusing)
    return emitted / now, (run.emitted - emitted) / (run.now - now), cycles


CARD = {1: 7.09, 2: 7.41, 4: 8.16, 8: 11.3, 16: 12.55, 32: 14.4, 64: 17.6, 128: 24.0, 256: 40.0}
"""Milliseconds of a pass by rows, to which it is padded: 14B Q8_0 on an H100 (docs/gpu.md); from 128 on made up."""


class Card(Machine):
    """Passes are padded; the first of a kind loads kernels, the second records its graph, and neither is told."""

    def __init__(self, steps: list[int]) -> None:
        super().__init__(lambda rows: CARD[self._step(rows)], PROFILES["published"], 0.0, 0.0, seed=0)
        self._steps = steps
        self._seen: dict[tuple[str, int], int] = {}
        self._kind = ""
        self.chooser = DraftLength(MAX_LENGTH, steps=steps)
        self.request = self.chooser.new_request()

    def _step(self, rows: float) -> int:
        return next(step for step in self._steps if step >= rows)

    def _pass(self, rows: float) -> None:
        key = (self._kind, self._step(rows))
        n = self._seen[key] = self._seen.get(key, 0) + 1
        if n > 2:
            super()._pass(rows)
            return
        self.now += 90.0 if n == 1 else self._time(rows) + 12.0
        self.n_passes += 1
        self.chooser.observe_pass(round(rows), 0.0)

    def _two_passes(self, length: int) -> None:
        self._kind = "causal" if length == 1 else "block"
        super()._two_passes(length)

    def _fused(self, length: int) -> None:
        self._kind = "fused"
        super()._fused(length)


@pytest.mark.parametrize("fusing", ["never", "measured"])
def test_a_card_that_records_graphs_drafts_as_is_best(fusing: str) -> None:
    card = Card(sorted(CARD))
    card.run(60, fusing)
    emitted, now = card.emitted, card.now
    card.run(1000, fusing)
    best = max(expected_tokens(n, PROFILES["published"]) / (2 * CARD[n]) for n in (2, 4, 8, 16, 32))
    assert (card.emitted - emitted) / (card.now - now) >= 0.9 * best


def test_a_trial_whose_passes_tell_nothing_is_made_again() -> None:
    """16 seems not to pay, by what is known of 1 and 8, until its passes are counted."""
    times = {1: 1.0, 8: 2.5, 16: 2.6}
    chooser = DraftLength(16, [0.9] * 15, steps=[1, 8, 16])
    request = chooser.new_request()
    chosen: list[int] = []
    for _ in range(40):
        chosen.append(chooser.choose(request).length)
        told = chosen[-1] != 16 or chosen.count(16) > 2
        for _ in range(1 if chosen[-1] == 1 else 2):
            chooser.observe_pass(chosen[-1], times[chosen[-1]] if told else 0.0)
    assert set(chosen[chosen.index(16) :]) == {16}


def test_where_all_passes_have_the_same_rows_the_longest_draft_is_chosen() -> None:
    card = Card([32])
    assert {cycle.length for cycle in card.run(100, "never")[5:]} == {32}


def test_cost_of_padded_passes_is_that_of_the_next_step() -> None:
    cost = PassCost([1, 8, 16])
    for rows, seconds in ((1, 1.0), (7, 3.0), (8, 3.0), (16, 5.0), (16, 5.0), (1, 1.0)):
        cost.observe(rows, seconds)
    assert [rows for rows, _ in cost.table()] == [1, 8, 16]
    assert cost.seconds(2) == cost.seconds(8) == pytest.approx(3.0)
    assert cost.seconds(9) == cost.seconds(16) == pytest.approx(5.0)
    assert cost.seconds(17) > 5.0


LOAD = (28.0, 14.0)
"""Rows and tokens in a pass of seven others."""


@pytest.mark.slow
@pytest.mark.parametrize("fusing", ["never", "measured"])
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("machine", MACHINES)
def test_choice_is_within_3_percent_of_the_best_fixed_one(machine: str, profile: str, fusing: str) -> None:
    first, second, _ = simulate(machine, profile, fusing)
    best = best_rate(MACHINES[machine], PROFILES[profile], 0, 0, fusing)
    assert first >= 0.93 * best
    assert second >= 0.97 * best


@pytest.mark.parametrize("fusing", ["never", "measured"])
@pytest.mark.parametrize("machine", MACHINES)
def test_under_load_the_choice_is_the_best_for_all_requests_together(machine: str, fusing: str) -> None:
    first, second, _ = simulate(machine, "published", fusing, LOAD)
    best = best_rate(MACHINES[machine], PROFILES["published"], *LOAD, fusing)
    assert first >= 0.93 * best
    assert second >= 0.97 * best


@pytest.mark.parametrize(
    ("machine", "profile", "fused"),
    [("flat", "published", True), ("flat", "half", True), ("linear, steep", "hardly any", False)],
)
def test_fused_cycles_are_chosen_where_they_pay(machine: str, profile: str, fused: bool) -> None:
    _, _, cycles = simulate(machine, profile, "measured", n_passes=1000)
    share = sum(cycle.fused for cycle in cycles[-200:]) / 200
    assert share > 0.8 if fused else share < 0.1


def test_in_a_crowd_one_request_drafts_where_nothing_is_known() -> None:
    """All eight drafted eight tokens in the second pass: in short answers `auto` was 0.83x of `ar`."""
    chooser = DraftLength(MAX_LENGTH)
    requests = [chooser.new_request() for _ in range(8)]
    assert {chooser.choose(request, 7.0, 7.0).length for request in requests} == {1}
    chooser.observe_pass(8, 1.0)
    assert sorted(chooser.choose(request, 7.0, 7.0).length for request in requests) == [1] * 7 + [8]
    for _ in range(4):  # it was cancelled, say
        chooser.observe_pass(8, 1.0)
    assert sorted(chooser.choose(request, 7.0, 7.0).length for request in requests) == [1] * 7 + [8]


class Crowd:
    """Requests that begin together and choose for themselves, in passes that they share."""

    PLAIN_STRETCH = 8  # passes of plain ar between choices, as in the engine

    @dataclass
    class Member:
        """One of them: tokens that are still wanted, and where it stands in its cycle."""

        acceptance: Acceptance
        left: int
        cycle: Cycle = field(default_factory=lambda: Cycle(1))
        length: int = 1
        plain_left: int = 0
        drafting: bool = False

    def __init__(self, time: Callable[[float], float], seed: int) -> None:
        self._time, self._rng, self._chooser = time, random.Random(seed), DraftLength(MAX_LENGTH)

    def run(self, n_requests: int, n_tokens: int, *, plain: bool = False) -> float:
        """Tokens per second of answers of n tokens each, of which the prompt's pass gives the first."""
        members = [self.Member(self._chooser.new_request(), n_tokens - 1) for _ in range(n_requests)]
        self._chooser.expect_crowd(n_requests, n_new=n_requests)
        for member in members:
            self._choose(member, plain)
        seconds = 0.0
        while members:
            rows, n, tokens = sum(member.length for member in members), len(members), 0
            took = self._time(rows) * math.exp(self._rng.gauss(0, NOISE))
            seconds += took
            self._chooser.expect_crowd(n)
            for member in members:
                if member.drafting:
                    member.drafting = False
                else:
                    tokens += self._verify(member)
                    self._choose(member, plain)
            self._chooser.observe_pass(rows, took)
            self._chooser.observe_crowd((n, rows, tokens))
            members = [member for member in members if member.left]
        return n_requests * n_tokens / seconds

    def _choose(self, member: Member, plain: bool) -> None:
        if member.plain_left:
            member.plain_left -= 1
        elif member.left and not plain:
            before, member.cycle = member.cycle, self._chooser.choose(member.acceptance)
            self._chooser.moved(before, member.cycle, member.acceptance)
            member.plain_left = self.PLAIN_STRETCH - 1 if member.cycle.length == 1 else 0
        member.length = min(member.cycle.length, member.left)
        member.drafting = member.length > 1

    def _verify(self, member: Member) -> int:
        n = member.length - 1
        accepted = next((i for i in range(n) if self._rng.random() >= PROFILES["published"](1 + i)), n)
        if n:
            member.acceptance.observe(n, accepted)
            self._chooser.observe_cycle(n, accepted)
        emitted = min(accepted + 1, member.left)
        member.left -= emitted
        return emitted


XEON = {1: 1.0, 8: 1.21, 16: 1.88, 32: 2.46, 64: 4.2, 128: 7.5}
EPYC = {1: 1.0, 4: 1.13, 8: 2.3, 16: 4.1, 32: 8.1, 64: 16.0}
"""t(rows) of two CPUs (docs/speed.md); those of the most rows are made up."""


def measured(table: dict[int, float]) -> Callable[[float], float]:
    """t(rows) on lines between what was measured."""
    rows, seconds = zip(*table.items(), strict=True)
    return lambda n: float(np.interp(n, rows, seconds))


@pytest.mark.parametrize("machine", [XEON, EPYC])
@pytest.mark.parametrize("n_tokens", [24, 96])
def test_a_crowd_that_should_not_draft_does_not(machine: dict[int, float], n_tokens: int) -> None:
    """Eight rows bring the most tokens for their time. Each request for itself would draft where the others do."""
    first, later = [], []
    for seed in range(12):
        chosen, plain = (Crowd(measured(machine), seed) for _ in range(2))
        ratios = [chosen.run(8, n_tokens) / plain.run(8, n_tokens, plain=True) for _ in range(6)]
        first.append(ratios[0])
        later += ratios[1:]
    assert statistics.median(first) > 0.8
    assert statistics.mean(later) > 0.93


def test_a_crowd_that_should_draft_does() -> None:
    crowd, plain = (Crowd(MACHINES["flat"], 1) for _ in range(2))
    ratios = [crowd.run(8, 96) / plain.run(8, 96, plain=True) for _ in range(4)]
    assert statistics.mean(ratios[1:]) > 1.5


def in_long_drafts(n_requests: int, rows: int, tokens: int) -> DraftLength:
    """What knows of so many requests that each bring rows and tokens to every pass."""
    chooser = DraftLength(MAX_LENGTH)
    chooser.expect_crowd(n_requests, n_new=n_requests)
    for _ in range(400):
        chooser.observe_crowd((n_requests, n_requests * rows, n_requests * tokens))
    assert chooser.load == pytest.approx(((n_requests - 1) * rows, (n_requests - 1) * tokens), rel=0.01)
    return chooser


def test_the_load_follows_who_comes_and_goes_at_once() -> None:
    chooser = in_long_drafts(5, rows=16, tokens=4)
    chooser.expect_crowd(3)  # two have left
    assert chooser.load == pytest.approx((32, 8), rel=0.01)
    chooser.expect_crowd(5, n_new=2)  # two others begin, with plain ar
    assert chooser.load == pytest.approx((34, 10), rel=0.01)
    chooser.moved(Cycle(1), Cycle(16), chooser.acceptance)  # and one of them drafts
    rows, _ = chooser.load
    assert rows == pytest.approx(49, rel=0.01)
    chooser.expect_crowd(1)
    assert chooser.load == (0, 0)


def test_requests_that_take_the_places_of_others_leave_the_load_as_it_is() -> None:
    """Short answers: in each pass one ends, and one begins and drafts as it did."""
    chooser = in_long_drafts(4, rows=16, tokens=4)
    for _ in range(300):
        chooser.expect_crowd(4, n_new=1)
        chooser.moved(Cycle(1), Cycle(16), chooser.acceptance)
        chooser.observe_crowd((4, 64, 16))
    rows, _ = chooser.load
    assert rows == pytest.approx(48, rel=0.05)


def test_requests_of_other_modes_load_passes_while_they_are_there() -> None:
    chooser = DraftLength(MAX_LENGTH)
    for _ in range(400):
        chooser.expect_crowd(0, n_fixed=7)
        chooser.observe_crowd((0, 0, 0), (7, 70, 14))
    chooser.expect_crowd(1, n_new=1, n_fixed=7)
    assert chooser.load == pytest.approx((70, 14), rel=0.01)
    chooser.expect_crowd(1)
    assert chooser.load == (0, 0)


def test_load_shortens_drafts_where_rows_cost() -> None:
    _, _, alone = simulate("then steep", "published", "never", n_passes=1000)
    _, _, crowd = simulate("then steep", "published", "never", LOAD, n_passes=1000)
    assert alone[-1].length > 8
    assert crowd[-1].length == 1


@pytest.mark.parametrize("fusing", ["never", "measured"])
def test_trials_lose_a_bounded_share_where_plain_ar_is_best(fusing: str) -> None:
    first, second, cycles = simulate("linear, steep", "hardly any", fusing)
    assert min(first, second) >= 0.98 / MACHINES["linear, steep"](1)
    assert max(cycle.length for cycle in cycles) > 1  # but it keeps looking


def test_trials_have_no_share_of_the_time_of_other_requests() -> None:
    """`pytrimode bench` with many settings: auto spent a tenth of its own time on trials."""

    def cycles(others: int) -> int:
        machine = Machine(MACHINES["linear, steep"], PROFILES["nearly all"], 0.0, 0.0, seed=1)
        tried = 0
        for _ in range(500):
            tried += sum(cycle.length > 1 for cycle in machine.run(4, "never"))
            for _ in range(others):
                machine.chooser.observe_pass(16, MACHINES["linear, steep"](16), chosen=False)
        return tried

    assert cycles(others=20) <= cycles(others=0) + 3


def test_length_follows_the_text() -> None:
    time = MACHINES["linear, slow"]
    chooser = DraftLength(MAX_LENGTH)
    request = chooser.new_request()
    for rows in (1, 8, 16, 32):
        for _ in range(5):
            chooser.observe_pass(rows, time(rows))
    for _ in range(100):
        request.observe(31, 31)
    assert chooser.best(request).length == 32
    for _ in range(120):
        request.observe(31, 0)
    assert chooser.best(request).length == 1


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
