"""The readers of what strangers write, over changed inputs and those that were findings: `python -m tools.fuzz`."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.fuzz import kept
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


def test_of_inputs_that_reach_the_same_the_shortest_is_kept() -> None:
    target = TARGETS["grammar"]
    short, long, other = b"root ::= (", b"root ::= (  ", b"root ::= [a"
    assert kept.few(target, [long, short, other]) == [short, other]
    assert kept.few(target, target.seeds()) == [], "they are there already"


def test_what_is_kept_is_small_and_has_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(path.stat().st_size for path in kept.CORPUS.rglob("*") if path.is_file()) < 300_000
    inputs = kept.read("cache")
    assert len(inputs) > 100 and len(set(inputs)) == len(inputs)
    monkeypatch.setattr(kept, "CORPUS", tmp_path)
    kept.write("cache", inputs)
    assert kept.read("cache") == inputs
