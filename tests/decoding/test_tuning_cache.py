"""What mode auto has measured is there when the model is opened again, and only then."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.decoding import chat_prompts, decode

from pytrimode import TriMode
from pytrimode._native import DraftLength, Learned, RequestOptions
from pytrimode.files.tuning_cache import _MAX_FILES, TuningCache, key_of
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

N_LENGTHS, N_POSITIONS = 6, 31


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the files go, in these tests alone."""
    monkeypatch.delenv("PYTRIMODE_TUNING_CACHE")
    monkeypatch.setenv("PYTRIMODE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tuning"


@pytest.fixture
def opened(q8_gguf: Path) -> Callable[..., TriMode]:
    return lambda **options: TriMode(q8_gguf, **{"n_ctx": 512, "n_threads": 1, **options})


def teach(chooser: DraftLength, length: int = 32) -> None:
    """Passes take the same time up to `length` rows and much longer beyond, and drafts are accepted."""
    for _ in range(60):
        for rows in chooser.lengths:
            chooser.observe_pass(rows, 0.001 if rows <= length else 1.0)
        chooser.observe_cycle(length - 1, length - 1)


def taught(opened: Callable[..., TriMode], **options: Any) -> None:
    with opened(**options) as model:
        teach(model.draft_length)


def first_length(model: TriMode) -> int:
    """Of the first cycle of a request, no token of which was seen."""
    chooser = model.draft_length
    return chooser.choose(chooser.new_request()).length


def state(**other: Any) -> dict[str, Any]:
    known = {
        "passes": [[1.0, 0.01, 5], [8.0, 0.02, 5]], "drafts": [[10, 9]] * N_POSITIONS, "ngrams": [[4, 1]] * N_LENGTHS,
        "after_rejection": 0.5,
    }  # fmt: skip
    return known | other


# --- The engine ------------------------------------------------------------------------------------------------------


def test_another_one_chooses_at_once_what_the_first_has_learned() -> None:
    first, second = DraftLength(32), DraftLength(32)
    teach(first, 16)
    assert second.choose(second.new_request()).length == 1  # it has to measure first
    second = DraftLength(32)
    second.restore(first.learned())
    assert second.choose(second.new_request()).length == first.best(first.new_request()).length == 16
    assert second.cost.seconds(8) == pytest.approx(first.cost.seconds(8), rel=1e-6)
    assert second.new_request().tokens(16) == pytest.approx(first.new_request().tokens(16), rel=0.02)
    assert second.after_rejection == first.after_rejection


def test_what_was_learned_is_a_prior_that_another_machine_soon_replaces() -> None:
    first, second = DraftLength(32), DraftLength(32)
    for _ in range(20):
        teach(first)
    assert first.new_request().tokens(32) > 30
    second.restore(first.learned())
    request, lengths = second.new_request(), []
    for _ in range(200):
        lengths.append(second.choose(request).length)
        for _ in range(1 if lengths[-1] == 1 else 2):
            second.observe_pass(lengths[-1], 0.003 * lengths[-1])  # no longer flat, and slower
        if lengths[-1] > 1:
            request.observe(lengths[-1] - 1, 0)
            second.observe_cycle(lengths[-1] - 1, 0)
    assert lengths[0] == 32
    assert lengths[100:].count(1) > 90


def test_handed_on_again_and_again_it_is_the_same() -> None:
    first = DraftLength(32)
    teach(first)
    learned = first.learned()
    for _ in range(3):
        other = DraftLength(32)
        other.restore(learned)
        learned = other.learned()
        assert [seen[0] for seen in learned.passes] == [seen[0] for seen in first.learned().passes]
        assert other.new_request().rates == pytest.approx(first.new_request().rates, abs=0.05)
        assert max(counted for counted, _ in learned.drafts) <= 60 + 1e-9


@pytest.mark.parametrize(
    "damage",
    [
        {"passes": [[1.0, math.nan, 5]]},
        {"passes": [[1.0, -1.0, 5]]},
        {"passes": [[1.0, math.inf, 5]]},
        {"passes": [[math.nan, 1.0, 5]]},
        {"passes": [[0.0, 1.0, 5]]},
        {"passes": [[1e9, 1.0, 5]]},
        {"passes": [[1.0, 1.0, 0]]},
        {"passes": [[1.0, 1.0, math.inf]]},
        {"passes": [[4.0, 1.0, 5], [4.0, 2.0, 5]]},
        {"drafts": [[10, 11]] * N_POSITIONS},
        {"drafts": [[math.inf, 1]] * N_POSITIONS},
        {"drafts": [[math.nan, math.nan]] * N_POSITIONS},
        {"drafts": [[10, -1]] * N_POSITIONS},
        {"drafts": [[10, 9]] * 3},
        {"ngrams": [[1, 2]] * N_LENGTHS},
        {"ngrams": []},
        {"after_rejection": 1.5},
        {"after_rejection": math.nan},
    ],
)
def test_what_cannot_have_been_learned_is_refused_and_changes_nothing(damage: dict[str, Any]) -> None:
    chooser = DraftLength(32)
    chooser.restore(Learned(**state()))
    before = chooser.learned()
    with pytest.raises(ValueError, match=r"passes|drafts|share"):
        chooser.restore(Learned(**state(**damage)))
    after = chooser.learned()
    assert (after.passes, after.drafts, after.ngrams) == (before.passes, before.drafts, before.ngrams)


# --- The file --------------------------------------------------------------------------------------------------------


def test_a_model_that_is_opened_again_drafts_from_the_first_token(
    opened: Callable[..., TriMode], checkpoint_dir: Path, cache: Path
) -> None:
    def first_draft(model: TriMode) -> int:
        """Tokens drafted, or passes that draft, when a real request has a token behind that of the prefill."""
        prompt = chat_prompts(model, checkpoint_dir, 1)[0]
        options = GenerationOptions(mode="auto", max_tokens=40, ngram=0, sampling=Sampling(temperature=0.0))
        events = model.run_many([(prompt, model.resolve(options, len(prompt)))], 1)
        stats = next(event.stats for _, event in events if event.stats.completion_tokens > 1)
        return stats.drafted + stats.fused_passes

    with opened() as model:
        assert first_draft(model) == 0
        teach(model.draft_length)
    assert len(list(cache.iterdir())) == 1
    with opened() as model:
        assert first_length(model) == 32
        assert first_draft(model) > 0


def test_texts_do_not_depend_on_it(opened: Callable[..., TriMode], checkpoint_dir: Path) -> None:
    with opened(tuning_cache=False) as model:
        prompts = chat_prompts(model, checkpoint_dir, 3)
        expected = [decode(model, prompt, mode="auto", max_tokens=40)[0] for prompt in prompts]
    taught(opened)
    with opened() as model:
        assert [decode(model, prompt, mode="auto", max_tokens=40)[0] for prompt in prompts] == expected


@pytest.mark.parametrize(
    "other",
    [{"n_threads": 2}, {"type_k": "q8_0"}, {"lora_path": None}, {"repack": False}, {"tuning_cache": False}],
)
def test_another_way_to_load_and_the_opt_out_do_not_read_it(opened: Callable[..., TriMode], other: Any) -> None:
    taught(opened)
    with opened(**other) as model:
        assert first_length(model) == 1
    with opened() as model:
        assert first_length(model) == 32


def test_a_changed_file_is_another_model(q8_gguf: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model.gguf"
    copy.write_bytes(q8_gguf.read_bytes())
    with TriMode(copy, n_ctx=256, n_threads=1) as model:
        teach(model.draft_length)
    os.utime(copy, (1, 1))
    with TriMode(copy, n_ctx=256, n_threads=1) as model:
        assert first_length(model) == 1


def test_the_variable_turns_it_off(
    opened: Callable[..., TriMode], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTRIMODE_TUNING_CACHE", "0")
    taught(opened)
    assert not cache.exists()


def test_nothing_is_written_where_nothing_was_learned(opened: Callable[..., TriMode], cache: Path) -> None:
    opened().close()
    taught(opened, tuning_cache=False)
    assert not cache.exists()
    taught(opened)
    (file,) = cache.iterdir()
    written = file.read_bytes()
    file.write_bytes(written + b" ")  # of the next model, which has no request
    opened().close()
    assert file.read_bytes() == written + b" "


def test_drafts_accepted_by_lot_teach_nothing(opened: Callable[..., TriMode], cache: Path) -> None:
    with opened() as model:
        prompt = model.prompt_tokens("Hello")
        teach(model.draft_length)
        resolved = RequestOptions(mode="self-spec", max_tokens=8, block_length=4, simulated_acceptance=[0.5])
        model.engine.wait_to_end(model.engine.submit(prompt, resolved))
    assert not cache.exists()


DAMAGE: dict[str, Callable[[dict[str, Any]], str | bytes]] = {
    "empty": lambda content: "",
    "binary": lambda content: b"\xff\x00\x80",
    "cut": lambda content: json.dumps(content)[:100],
    "deep": lambda content: "[" * 50000,
    "long": lambda content: json.dumps(content) + " " * 70000,
    "list": lambda content: "[]",
    "no field": lambda content: json.dumps({"key": content["key"]}),
    "another key": lambda content: json.dumps(content | {"key": {}}),
    "text for numbers": lambda content: json.dumps(content | {"passes": "abc"}),
    "null": lambda content: json.dumps(content | {"drafts": None}),
    "huge": lambda content: json.dumps(content | {"passes": [[1, 10**400, 5]]}),
    "not finite": lambda content: json.dumps(content | {"passes": [[1, math.nan, 5]]}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_ignored_and_replaced(
    damage: str, opened: Callable[..., TriMode], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taught(opened)
    (file,) = cache.iterdir()
    content = DAMAGE[damage](json.loads(file.read_text()))
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with caplog.at_level(logging.WARNING), opened() as model:
        assert first_length(model) == 1
        assert [str(file) in record.getMessage() for record in caplog.records] == [True]
        assert "\n" not in caplog.text.strip()
        teach(model.draft_length)
    with opened() as model:
        assert first_length(model) == 32


def test_where_nothing_can_be_written_nothing_is_said(
    opened: Callable[..., TriMode], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")
    with caplog.at_level(logging.INFO):
        taught(opened)
    assert not caplog.records


def test_the_oldest_files_go(opened: Callable[..., TriMode], cache: Path) -> None:
    cache.mkdir(parents=True)
    for i in range(_MAX_FILES + 5):
        (cache / f"{i}.json").write_text("{}")
        os.utime(cache / f"{i}.json", (i, i))
    taught(opened)
    left = {file.name for file in cache.iterdir()}
    assert len(left) == _MAX_FILES and "0.json" not in left and f"{_MAX_FILES + 4}.json" in left


def test_many_that_write_at_once_leave_one_whole_file(opened: Callable[..., TriMode], cache: Path) -> None:
    with opened(tuning_cache=False) as model:
        teach(model.draft_length)
        places = [TuningCache(key_of([model.model_path])) for _ in range(4)]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda place: [place.save(model.engine) for _ in range(20)], places))
    (file,) = cache.iterdir()
    assert set(json.loads(file.read_text())) == {"key", "passes", "drafts", "ngrams", "after_rejection"}


def test_a_process_that_ends_without_closing_keeps_it_too(q8_gguf: Path, cache: Path) -> None:
    script = (
        "import sys; from pytrimode import TriMode; m = TriMode(sys.argv[1], n_ctx=256, n_threads=1);"
        "m.create_completion('Hello', max_tokens=40, mode='auto', ignore_eos=True)"
    )
    subprocess.run([sys.executable, "-c", script, str(q8_gguf)], check=True, timeout=120)
    assert len(list(cache.iterdir())) == 1
