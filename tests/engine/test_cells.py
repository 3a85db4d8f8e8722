"""2,000 random operations on the KV cache through the engine: no cell is lost, and none holds what it should not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from support.crowd import Asked, alone, passes, submit
from support.synthetic import make_checkpoint

from pytrimode import TriMode
from pytrimode.convert import convert
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

N_OPERATIONS = 2000
N_STEPS = 100
KINDS: list[dict[str, Any]] = [
    {"mode": "ar"},
    {"mode": "self-spec", "block_length": 8},
    {"mode": "self-spec", "block_length": 4, "fused": True},
    {"mode": "diffusion", "block_length": 8},
]
"""Without auto: what it does depends on the time, and an example must give the same again."""
BEGINNINGS = [[1, *range(base, base + 160)] for base in (130, 300)]
"""What prompts share the beginning of."""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[TriMode]:
    """A fast model with too few cells for what is asked of it: requests pause, and beginnings are evicted."""
    gguf = convert(make_checkpoint(tmp_path / "model", layers=1), tmp_path / "model.gguf", "f32").path
    with TriMode(gguf, n_ctx=512, n_threads=1, n_parallel=4) as loaded:
        yield loaded


class Cells(RuleBasedStateMachine):
    """Requests come, go on, end and are cancelled, in any order."""

    model: TriMode
    n_operations = 0

    def __init__(self) -> None:
        super().__init__()
        self.engine = self.model.engine
        self.asked: dict[int, Asked] = {}
        self.kept = False

    @precondition(lambda self: len(self.asked) < 8)
    @rule(
        beginning=st.sampled_from(BEGINNINGS), shared=st.integers(1, 160), own=st.integers(0, 40),
        max_tokens=st.integers(1, 60), kind=st.sampled_from(KINDS),
    )  # fmt: skip
    def submit(self, beginning: list[int], shared: int, own: int, max_tokens: int, kind: dict[str, Any]) -> None:
        tokens = beginning[:shared] + [465 + i for i in range(own)]
        options = GenerationOptions(
            max_tokens=max_tokens, ignore_eos=True, loop_window=0, sampling=Sampling(temperature=0.0), **kind
        )
        asked = Asked(tokens, options)
        self.asked[submit(self.model, asked)] = asked

    @rule(n=st.integers(1, 6))
    def go_on(self, n: int) -> None:
        for _ in range(n):
            self.take(self.engine.step())

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), after=st.integers(0, 2))
    def cancel(self, data: st.DataObject, after: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.asked)))
        self.engine.cancel(number)
        for _ in range(after):
            self.take(self.engine.step())
        if self.asked.pop(number, None):  # it may have ended before
            self.engine.release(number)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.asked)))
        while number in self.asked:
            self.take(self.engine.step())

    @rule(beginning=st.sampled_from(BEGINNINGS), n=st.integers(1, 100))
    def keep(self, beginning: list[int], n: int) -> None:
        self.model.keep(beginning[:n])
        self.kept = True

    @rule()
    def clear(self) -> None:
        self.engine.clear_cache()
        self.kept = False

    def take(self, events: list[Any]) -> None:
        for event in events:
            if event.finish_reason:
                self.engine.release(event.request_id)
                self.asked.pop(event.request_id, None)

    @invariant()
    def cells_are_counted(self) -> None:
        type(self).n_operations += 1
        state = self.engine.state
        held = state["n_cells"] - state["n_free_cells"] - state["n_idle_cells"]
        assert 0 <= held <= state["n_cells"]
        if not self.asked:
            assert state["n_running"] == state["n_suspended"] == state["n_queued"] == 0
            assert self.kept or held == 0

    def teardown(self) -> None:
        for number in self.asked:
            self.engine.release(number)
        state = self.engine.state
        assert state["n_running"] == state["n_suspended"] == state["n_queued"] == 0
        assert self.kept or state["n_free_cells"] + state["n_idle_cells"] == state["n_cells"]
        self.engine.clear_cache()
        assert self.engine.state["n_free_cells"] == state["n_cells"]


@pytest.mark.slow
def test_no_cells_are_lost(small: TriMode) -> None:
    Cells.model, Cells.n_operations = small, 0
    run_state_machine_as_test(
        Cells,
        settings=settings(
            max_examples=2 * N_OPERATIONS // N_STEPS, stateful_step_count=N_STEPS, deadline=None, derandomize=True,
            database=None, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
    assert Cells.n_operations >= N_OPERATIONS
    probe = Asked(BEGINNINGS[0], GenerationOptions(max_tokens=20, sampling=Sampling(temperature=0.0)))
    assert len(alone(small, probe)) > 0


def plain(n: int, length: int, max_tokens: int = 40) -> Asked:
    """A request in `ar` whose prompt has nothing in common with that of another n."""
    tokens = [1, *(130 + (37 * n + i) % 350 for i in range(length - 1))]
    options = GenerationOptions(
        mode="ar", max_tokens=max_tokens, ignore_eos=True, loop_window=0, sampling=Sampling(temperature=0.0)
    )
    return Asked(tokens, options)


def cells_of_a_pass(model: TriMode, asked: list[Asked]) -> float:
    """That attention reads in a pass while all of these requests decode side by side."""
    engine, measured = model.engine, []
    for _ in passes(model, asked, [0] * len(asked)):
        if all(one.got for one in asked):
            measured.append(engine.times)
    first, last = measured[0], measured[-1]
    return (last["cells"] - first["cells"]) / (last["passes"] - first["passes"])


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TriMode]:
    """A fast model with cells enough for all that is asked of it."""
    root = tmp_path_factory.mktemp("roomy")
    gguf = convert(make_checkpoint(root / "model", layers=1, max_position=8192), root / "model.gguf", "f32").path
    with TriMode(gguf, n_ctx=8192, n_threads=1, n_parallel=8) as loaded:
        yield loaded


def test_a_pass_does_not_read_what_other_requests_left(roomy: TriMode) -> None:
    roomy.clear_cache()
    fresh = cells_of_a_pass(roomy, [plain(0, 20)])
    for n in range(1, 9):
        cells_of_a_pass(roomy, [plain(n, 400)])
    assert cells_of_a_pass(roomy, [plain(9, 20)]) == fresh
    assert 20 < fresh <= 60


def test_requests_side_by_side_read_their_own_cells(roomy: TriMode) -> None:
    """And nobody's text depends on it."""
    crowd = [plain(n, 300 + 50 * n) for n in range(8)]
    expected = [alone(roomy, plain(n, 300 + 50 * n)) for n in range(8)]
    roomy.clear_cache()
    assert cells_of_a_pass(roomy, crowd) <= sum(len(one.tokens) + 40 for one in crowd)
    assert [one.got for one in crowd] == expected
