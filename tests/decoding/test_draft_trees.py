"""Simulations of drafts and of denoising: they replay what the engine does, and trees hold the most promising nodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.decoding import chat_prompts, decode

from benchmarks.draft_nodes import (
    Calibration,
    accepted,
    beside_chain,
    best_first,
    chain,
    n_rows,
    worth_their_rows,
)
from benchmarks.draft_trees import DrawnReplay, Replay
from benchmarks.drawn_drafts import fused
from benchmarks.recorded_passes import RecordedPasses, Rows
from benchmarks.reveal_rules import Calibrated, Rule, answer, errors, first, margin, threshold
from benchmarks.time_profiles import PROFILES, Profile
from pytrimode import TriMode
from pytrimode.bench.acceptance import published

FLAT = Profile("flat", {1: 1.0, 64: 1.0})


def rows_of(chances: list[list[float]]) -> Rows:
    """Rows whose candidates are 10, 11, ... at the first position, 20, 21, ... at the second."""
    tokens = [[10 * (depth + 1) + rank for rank in range(len(row))] for depth, row in enumerate(chances)]
    return Rows(np.array(tokens, np.int32), np.array(chances, np.float32), np.zeros(len(chances), np.float32))


ROWS = rows_of([[0.6, 0.3, 0.1], [0.9, 0.06, 0.04], [0.5, 0.4, 0.1]])


def test_the_best_nodes_of_all_trees_come_first() -> None:
    ranks = range(3)
    paths = [path for depth in (1, 2, 3) for path in itertools.product(ranks, repeat=depth)]
    values = sorted((np.prod([ROWS.chances[i, k] for i, k in enumerate(path)]) for path in paths), reverse=True)
    found = best_first(ROWS, (), Calibration(), lambda nodes: len(nodes) >= 12)
    assert [node.value for node in found] == pytest.approx(values[:12])
    assert all(node.parent < i for i, node in enumerate(found))


def test_beside_the_chain_stand_so_many_nodes() -> None:
    for n in range(8):
        nodes = beside_chain(ROWS, (), Calibration(), n)
        assert [node.token for node in nodes if not node.strays] == [10, 20, 30]
        assert sum(node.strays for node in nodes) == n
        assert [node.token for node in accepted(nodes, [10, 20, 30, 7])] == [10, 20, 30]


def test_what_follows_a_rejected_draft_is_found_in_the_tree_alone() -> None:
    tree = best_first(ROWS, (), Calibration(), lambda nodes: len(nodes) >= 39)
    assert len(tree) == 3 + 9 + 27
    assert [node.rank for node in accepted(tree, [11, 20, 31, 5])] == [1, 0, 1]
    assert accepted(chain(ROWS, (), Calibration()), [11, 20, 31, 5]) == []


def test_nothing_follows_an_end_and_an_end_has_no_row() -> None:
    ends = {20}
    assert [node.token for node in chain(ROWS, ends, Calibration())] == [10, 20]
    assert n_rows(chain(ROWS, ends, Calibration()), ends) == 2
    tree = best_first(ROWS, ends, Calibration(), lambda nodes: False)
    assert all(tree[node.parent].token != 20 for node in tree if node.parent >= 0)


def test_rows_are_verified_up_to_their_price() -> None:
    nodes = chain(rows_of([[0.9], [0.9], [0.1], [0.9]]), (), Calibration())
    assert len(worth_their_rows(nodes, (), lambda rows: 0.3 * rows)) == 2
    assert len(worth_their_rows(nodes, (), lambda rows: 0.0)) == 4
    assert worth_their_rows(nodes, (), lambda rows: 2.0 * rows) == []


def test_calibration_learns_how_often_a_confidence_is_right() -> None:
    calibration = Calibration()
    assert calibration.chance(ROWS, 0, 0, False) == pytest.approx(0.6)
    for i in range(400):
        calibration.observe(ROWS, 0, False, 10 if i % 10 else 12)
    assert calibration.chance(ROWS, 0, 0, False) == pytest.approx(0.9, abs=0.01)
    assert calibration.chance(ROWS, 0, 2, False) == pytest.approx(0.1, abs=0.01)
    assert calibration.chance(ROWS, 0, 0, True) == pytest.approx(0.6)


@pytest.mark.parametrize("length", [4, 16])
def test_chains_are_the_cycles_of_the_engine(model: TriMode, checkpoint_dir: Path, length: int) -> None:
    prompts = [
        model.chat_tokens([{"role": "user", "content": text}])
        for text in ("What can you do?", "Explain the system prompt.", "Hello, how are you?")
    ]
    of_engine = [decode(model, prompt, mode="self-spec", block_length=length, max_tokens=64)[1] for prompt in prompts]
    cycles = Replay(RecordedPasses(model), prompts, 64).chain(length)
    assert cycles.n == sum(stats.cycles for stats in of_engine)
    assert cycles.tokens == sum(stats.completion_tokens - 1 for stats in of_engine)


def test_a_tree_whose_rows_cost_nothing_emits_more_and_a_chain_is_not_cut() -> None:
    replay = DrawnReplay(published("8B").rates, 200)
    chains, trees = replay.chain(16), replay.priced(16, FLAT, tree=True)
    assert trees.tokens > 1.03 * chains.tokens
    assert max(trees.rows) <= 64
    assert replay.priced(16, FLAT, tree=False).tokens == chains.tokens


def test_drawn_drafts_are_right_as_often_as_they_shall_be() -> None:
    rates = published("8B").rates
    cycles = DrawnReplay(rates, 2000).chain(8)
    assert cycles.tokens / cycles.n == pytest.approx(published("8B").tokens(8), rel=0.03)
    assert cycles.ranks.count(1) / cycles.rejected == pytest.approx(0.575, abs=0.06)


def test_a_fused_cycle_of_sure_drafts_emits_its_width_a_pass() -> None:
    speed = fused([1 - 1e-9], FLAT, 8, 64)["1 x 8"]
    assert speed == pytest.approx(8, rel=1e-3)


def test_times_are_padded_to_a_step_on_a_device_and_go_on_behind_the_last_point() -> None:
    card = next(profile for profile in PROFILES if profile.padded)
    assert card.time(9) == card.time(16) < card.time(17) == card.time(32)
    assert Profile("line", {1: 2.0, 3: 4.0}).time(2) == 3.0
    assert Profile("line", {1: 2.0, 3: 4.0}).time(5) == 6.0


@pytest.mark.parametrize(
    ("value", "reveal", "rule"),
    [(0.6, "confidence", threshold), (0.9, "confidence", threshold), (0.87, "margin", margin), (0.5, "margin", margin)],
)
def test_denoising_by_a_rule_is_that_of_the_engine(
    model: TriMode, checkpoint_dir: Path, value: float, reveal: str, rule: Callable[[float], Rule]
) -> None:
    passes = RecordedPasses(model)
    kept = first(rule(value)) if reveal == "margin" else rule(value)
    for prompt in chat_prompts(model, checkpoint_dir, 4):
        options = {"mode": "diffusion", "block_length": 16, "threshold": value, "reveal": reveal, "max_tokens": 40}
        tokens, stats = decode(model, prompt, **options)
        assert answer(passes, prompt, 16, 40, kept, None) == (tokens, stats.forward_passes)


def test_a_budget_of_errors_is_spent_on_the_surest() -> None:
    rows = rows_of([[0.5], [0.96], [0.92], [0.995]])
    order = [3, 1, 2, 0]
    assert errors(0.06).chosen(rows, order, np.ones(4, np.int64)) == [3, 1]
    learnt = Calibrated(0.06)
    assert learnt.rule.chosen(rows, order, np.ones(4, np.int64)) == [3, 1]
    learnt.learn([0.92] * 1000, [False] * 1000)
    assert learnt.rule.chosen(rows, order, np.ones(4, np.int64)) == [3, 1, 2]


def test_recorded_passes_come_back_from_their_file(model: TriMode, tmp_path: Path) -> None:
    path = tmp_path / "passes.pickle"
    prompt = model.chat_tokens([{"role": "user", "content": "What can you do?"}])
    first = RecordedPasses(model, path)
    rows, text = first.draft(prompt, 8), first.text(prompt, 16)
    first.save()
    again = RecordedPasses(model, path)
    assert again.text(prompt, 16) == text
    assert np.array_equal(again.draft(prompt, 8).chances, rows.chances)
