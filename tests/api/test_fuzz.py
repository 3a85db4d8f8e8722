"""The readers of what strangers write, over changed inputs and those that were findings: `python -m tools.fuzz`."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator

import pytest

from tools.fuzz.__main__ import fault, known
from tools.fuzz.mutate import mutated
from tools.fuzz.targets import TARGETS, Target


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_takes_or_refuses_what_was_changed(name: str) -> None:
    target, chance = TARGETS[name], random.Random(11)
    seeds = target.seeds()
    assert target.check(seeds[0]), "the first seed is good"
    inputs = [*seeds, *known(name), *(mutated(seeds, chance) for _ in range(150))]
    found = [wrong for data in inputs if (wrong := fault(target, data))]
    assert found == []
    assert not all(target.check(data) for data in inputs), "some changes are refused"


def test_what_no_reader_may_raise_is_a_finding() -> None:
    def broken(data: bytes) -> None:
        if data:
            raise KeyError("a")

    assert "KeyError" in fault(Target(broken, list), b"x") and not fault(Target(broken, list), b"")

    def silent(data: bytes) -> None:
        raise ValueError

    assert "ValueError" in fault(Target(silent, list), b"x"), "a refusal needs words"
