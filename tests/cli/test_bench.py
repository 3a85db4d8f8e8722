"""`pytrimode bench`: what it measures, in which forms, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytrimode.bench.plan import STOCK, Setting, Workload, settings_of
from pytrimode.bench.prompts import PROMPTS, read_prompts, tokenize
from pytrimode.bench.runner import Results, turns
from pytrimode.bench.samples import Sample, total
from pytrimode.bench.summary import ALL, auto_lines, lines
from pytrimode.cli import run
from pytrimode.trimode import TriMode

pytestmark = pytest.mark.slow

QUICK = ["-t", "1", "-n", "12", "--prompts", "1", "--category", "maths", "--category", "lists", "-r", "2"]
PNG = b"\x89PNG\r\n\x1a\n"


def bench(capsys: pytest.CaptureFixture[str], gguf: Path, *arguments: str) -> str:
    assert run(["bench", str(gguf), *QUICK, *arguments]) == 0
    return capsys.readouterr().out


def test_tables_name_every_setting_and_prompt(capsys: pytest.CaptureFixture[str], q8_gguf: Path) -> None:
    out = bench(capsys, q8_gguf, "-m", "ar,dlm,linear_spec,auto", "-B", "4")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    measured = [row[:2] for row in rows[2:17]]
    settings = ["ar", "diffusion 4", "self-spec 4", "auto"]
    assert measured[:12] == [[category, s] for category in ("maths", "lists", ALL) for s in settings]
    *_, last = out.strip().splitlines()
    assert last.startswith("all, 1 at a time") or "tokens/s" in last, "the answer comes last"
    head = "| model | size | params | backend | threads | test | t/s |"
    _, llama_bench = out.split(head)
    tests = [line.split("|")[6].strip() for line in llama_bench.splitlines() if line.startswith("| ")]
    assert tests == ["pp512", *(f"tg12 {setting}" for setting in settings)]
    assert re.search(r"\| CPU \| 1 \| pp512 \| [\d.]+ ± [\d.]+ \|", llama_bench)
    assert "auto x best" in out and "Drafts accepted" in out and "Time of a pass" in out


def test_json_has_figures_that_agree(capsys: pytest.CaptureFixture[str], q8_gguf: Path) -> None:
    report = json.loads(
        bench(capsys, q8_gguf, "-m", "ar,self-spec", "-B", "4", "--fused", "--without-lora", "-o", "json")
    )
    by_setting = {(r["mode"], r["fused"], r["use_lora"]): r for r in report["results"] if r["category"] == ALL}
    ar, drafted, fused = (
        by_setting["ar", False, True],
        by_setting["self-spec", False, True],
        by_setting["self-spec", True, True],
    )
    assert set(by_setting) == {
        ("ar", False, True), ("self-spec", False, True), ("self-spec", True, True), ("self-spec", False, False),
    }  # fmt: skip
    assert fused["tokens"] == ar["tokens"] and fused["tokens_per_forward"] > drafted["tokens_per_forward"]
    assert ar["tokens"] == drafted["tokens"] > 20
    assert ar["tokens_per_forward"] == 1.0 < drafted["tokens_per_forward"] <= 2.0
    assert len(drafted["acceptance_by_position"]) == 3
    assert all(0 <= rate <= 1 for rate in drafted["acceptance_by_position"])
    assert ar["x_ar"] is None and drafted["x_ar"] > 0
    assert 0 <= ar["overhead"] < 1 and ar["tokens_per_second_lowest"] <= ar["tokens_per_second"]


def test_csv_parallel_and_long_prompts(capsys: pytest.CaptureFixture[str], q8_gguf: Path) -> None:
    out = bench(capsys, q8_gguf, "-m", "ar,auto", "-np", "1,2", "-p", "0,60", "-o", "csv", "-c", "1024")
    rows = list(csv.DictReader(io.StringIO(out)))
    axes = {(r["category"], r["prompt_length"], r["parallel"], r["mode"]) for r in rows}
    assert len(axes) == len(rows) == 3 * 2 * 2 * 2
    assert all(float(r["tokens_per_second"]) > 0 for r in rows)


def test_comparison_with_stock_and_chart(capsys: pytest.CaptureFixture[str], q8_gguf: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    chart = tmp_path / "speeds.png"
    out = bench(capsys, q8_gguf, "-m", "ar", "--compare", STOCK, "-o", "json", "--chart", str(chart), "-c", "512")
    by_mode = {r["mode"]: r for r in json.loads(out)["results"] if r["category"] == ALL}
    assert by_mode["ar"]["x_llama_cpp_python"] > 0
    assert by_mode[STOCK]["tokens"] == by_mode["ar"]["tokens"]  # the same file, greedy, the same tokens
    assert chart.read_bytes().startswith(PNG)


ENOUGH = 4.0
"""Seconds of a processor in which bench has loaded and gone through a round."""


def seconds_used(pid: int) -> float:
    """Of a processor, by a process: it does not depend on what else the machine does."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_interrupted_it_prints_what_there_is(q8_gguf: Path) -> None:
    command = [sys.executable, "-m", "pytrimode", "bench", str(q8_gguf), *QUICK, "-r", "10000", "-m", "ar"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while seconds_used(process.pid) < ENOUGH and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "INTERRUPTED" in out and "| maths | ar |" in out
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "quick"], "unknown mode 'quick'"),
        (["-B", "4,x"], "'4,x' is not a list of numbers"),
        (["-B", "0"], "0 is too low"),
        (["--category", "poems"], "no category 'poems': there are code, chat, maths, lists"),
        (["-f", "missing.txt"], "missing.txt"),
        (["-p", "5000", "-c", "512"], "exceed context window of 512"),
    ],
)
def test_wrong_usage_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], q8_gguf: Path, arguments: Sequence[str], message: str
) -> None:
    assert run(["bench", str(q8_gguf), "-t", "1", *arguments]) in (1, 2)
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert not captured.out


@pytest.mark.parametrize("content", ["[1]", '{"a": "b"}', '{"a": []}', "{"])
def test_bad_prompt_files_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "prompts.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"prompts\.json"):
        read_prompts(file)


def test_prompts_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.json").write_text('{"x": ["one"], "y": []}')
    assert read_prompts(tmp_path / "a.txt") == {"a": ["one", "two"]}
    assert read_prompts(tmp_path / "b.json") == {"x": ["one"]}


def test_prompts_have_the_length_that_is_wanted(model: TriMode) -> None:
    for category, prompts in tokenize(model, PROMPTS, 200).items():
        short = tokenize(model, {category: PROMPTS[category]}, 0)[category]
        longest = max(map(len, short))
        assert all(200 <= len(tokens) < 250 + 2 * longest for tokens in prompts)
        assert [tokens[-8:] for tokens in prompts] == [tokens[-8:] for tokens in short]


# --- Counting --------------------------------------------------------------------------------------------------------


def test_acceptance_counts_a_position_only_where_it_was_reached() -> None:
    sample = Sample()
    for drafted, accepted in ((3, 3), (3, 0), (3, 1), (1, 1)):
        sample.add_cycle(drafted, accepted)
    assert sample.tried_at == [4, 2, 1] and sample.accepted_at == [3, 1, 1]
    both = total([sample, Sample(tokens=5, tried_at=[1], accepted_at=[1])])
    assert both.tokens == 5 and both.tried_at == [5, 2, 1] and both.acceptance_by_position[0] == 0.8


def test_ratios_are_taken_within_a_round() -> None:
    work = Workload("code", 0, 16, 1)
    ar, auto, fixed = Setting("ar"), Setting("auto"), Setting("self-spec", 8)

    def speeds(*values: float) -> list[Sample]:
        return [Sample(tokens=100, seconds=100 / v) for v in values]

    # A machine that becomes ten times as slow: ratios stay 2 and 3.
    results: Results = {(work, ar): speeds(10, 1), (work, auto): speeds(20, 2), (work, fixed): speeds(30, 3)}
    against = {line.setting: line.against["ar"].median for line in lines(results) if line.against}
    assert against == pytest.approx({auto: 2.0, fixed: 3.0})
    (line,) = auto_lines(results)
    assert line.best == fixed and line.against_best.median == pytest.approx(2 / 3)


def test_settings_take_turns() -> None:
    settings = settings_of(["ar", "self-spec"], [4, 8], has_mask=True, fused=False, without_lora=False)
    prompts: Any = {("code", 0): [[1], [2], [3]]}
    order = list(turns(prompts, [Workload("code", 0, 8, 1)], settings, rounds=1))
    assert [turn.prompts for turn in order] == [[[i]] for i in (1, 1, 1, 2, 2, 2, 3, 3, 3)]
    assert {turn.setting for turn in order[:3]} == set(settings)
    assert len({order[0].setting, order[3].setting, order[6].setting}) == 3  # none always comes first
