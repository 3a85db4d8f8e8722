"""Passes of a fixed number of rows: what a row gives does not depend on what is computed beside it.

ggml's kernels for the CPU change with the number of rows, as those of a GPU do: with them, and graphs as for a device,
it stands for one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.decoding import heldout

from pytrimode import TriMode, _native
from pytrimode.files.model_file import find_drafter_lora
from pytrimode.files.shipped_model import shipped_checkpoint

LONG = 1000
"""Tokens: answers go over the boundary between 1,024 cells and 2,048."""


@pytest.fixture(scope="module")
def model(f16_gguf: Path) -> _native.Model:
    """F16 weights: ggml has a kernel of its own for products of one row."""
    return _native.Model(str(f16_gguf), lora_path=str(find_drafter_lora(f16_gguf, "auto")), repack=False)


def engine(model: _native.Model, **options: object) -> _native.Engine:
    return _native.Engine(model, **{"n_ctx": 2048, "n_threads": 1, "device_graphs": True} | options)


def prompt(model: _native.Model, n: int, number: int = 0) -> list[int]:
    """A held-out question behind others, `n` tokens of them."""
    texts = [entry["messages"][-1]["content"] for entry in heldout(shipped_checkpoint())[number:]]
    tokens: list[int] = []
    for text in texts:
        tokens += model.tokenize(
            f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n<think></think>".encode(), not tokens, True
        )
        if len(tokens) >= n:
            return tokens[:n]
    raise AssertionError("too few prompts")


def answer(engine: _native.Engine, tokens: list[int], **options: object) -> tuple[list[int], list[float]]:
    """Tokens and their log-probabilities."""
    engine.clear_cache()
    options = {"max_tokens": 32, "ignore_eos": True, "loop_window": 0, "logprobs": 0} | options
    event = engine.wait_to_end(engine.submit(tokens, _native.RequestOptions(**options)))
    return event.tokens, [position.chosen.logprob for position in event.logprobs]


@pytest.mark.slow
def test_logits_of_self_spec_are_those_of_ar_to_the_bit(model: _native.Model) -> None:
    """Over a boundary between two numbers of cells; drafts end on either side of it."""
    exact = engine(model, exact_rows=8)
    tokens = prompt(model, LONG)
    expected = answer(exact, tokens, mode="ar")
    for block in (3, 8, 0):
        assert answer(exact, tokens, mode="self-spec", block_length=block) == expected


def test_without_exact_rows_they_are_not(model: _native.Model) -> None:
    """Else the other tests show nothing."""
    plain = engine(model)
    tokens = prompt(model, LONG)
    assert answer(plain, tokens, mode="self-spec", block_length=8)[1] != answer(plain, tokens, mode="ar")[1]


def test_a_crowd_changes_no_text(model: _native.Model) -> None:
    """Rows of several requests share passes of 16."""
    asked = [prompt(model, 40 + 30 * i, i) for i in range(4)]
    options = {"mode": "self-spec", "block_length": 5, "max_tokens": 20, "ignore_eos": True, "loop_window": 0}
    alone = engine(model, exact_rows=16)
    expected = [answer(alone, tokens, **options)[0] for tokens in asked]
    crowd = engine(model, exact_rows=16, n_parallel=4)
    ids = [crowd.submit(tokens, _native.RequestOptions(**options)) for tokens in asked]
    assert [crowd.wait_to_end(i).tokens for i in ids] == expected
    assert crowd.times["passes"] < 4 * alone.times["passes"]


def test_a_row_reads_as_many_cells_as_it_would_alone(model: _native.Model) -> None:
    """Kernels for the CPU give the same bits over more cells, which are hidden; others may not."""
    exact = engine(model, exact_rows=8, n_parallel=2)
    for number, n in enumerate((100, 1100)):
        options = _native.RequestOptions(mode="ar", max_tokens=16, ignore_eos=True, loop_window=0)
        exact.submit(prompt(model, n, number), options)
    for _ in range(8):  # both prompts are computed
        exact.step()
    before = exact.times
    exact.step()
    assert exact.times["rows"] - before["rows"] == 2
    assert exact.times["cells"] - before["cells"] == 1024 + 2048


def test_the_option_reaches_the_engine(f16_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    make = _native.Engine

    def engine(*args: Any, **options: Any) -> _native.Engine:
        given.append(options["exact_rows"])
        return make(*args, **options)

    monkeypatch.setattr(_native, "Engine", engine)
    for exact in (False, True):
        with TriMode(f16_gguf, n_ctx=256, exact=exact) as opened:
            opened.create_completion("Hello", max_tokens=4, temperature=0.0)  # it changes nothing on a CPU
    assert given == [0, 32]


def test_of_a_prompt_whole_batches_are_reused(model: _native.Model) -> None:
    exact = engine(model, exact_rows=8, n_batch=256)
    tokens = prompt(model, LONG)
    options = _native.RequestOptions(mode="ar", max_tokens=8)
    first, again = (exact.wait_to_end(exact.submit(tokens, options)) for _ in range(2))
    assert (first.stats.cached_tokens, again.stats.cached_tokens) == (0, 768)
    assert first.tokens == again.tokens


def test_a_block_of_diffusion_may_be_longer(model: _native.Model) -> None:
    found = answer(engine(model, exact_rows=8), prompt(model, 40), mode="diffusion", block_length=32, logprobs=-1)
    assert found == answer(engine(model), prompt(model, 40), mode="diffusion", block_length=32, logprobs=-1)


def test_a_cpu_needs_none_of_it(model: _native.Model) -> None:
    cpu = engine(model, exact_rows=8, device_graphs=False)
    assert cpu.row_steps == []
    assert len(answer(cpu, prompt(model, 40), mode="self-spec", block_length=16, fusing="always")[0]) == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exact_rows": 513}, "exact_rows is 513; it must be between 0 and n_batch"),
        ({"row_steps": [4, 2]}, "ascending"),
    ],
)
def test_impossible_engines_are_refused(model: _native.Model, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine(model, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"block_length": 9}, "block_length is 9; exact passes have 8 rows"), ({"fusing": "always"}, "no room for fused")],
)
def test_requests_that_do_not_fit_are_refused(model: _native.Model, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine(model, exact_rows=8).submit(
            [200, 201], _native.RequestOptions(mode="self-spec", **{"block_length": 8} | options)
        )


def test_passes_are_padded_to_the_steps_that_are_given(model: _native.Model) -> None:
    stepped = engine(model, row_steps=[1, 6, 12], n_batch=64)
    assert stepped.row_steps == [1, 6, 12, 16, 32, 64]
    assert stepped.draft_length.lengths == [1, 6, 12, 16, 32]
    for n in range(1, 13):
        stepped.logits(prompt(model, 40)[:n])
    assert stepped.times["graphs"] == 3
    assert engine(model, n_batch=64).row_steps == [1, 2, 4, 8, 16, 32, 64]


def test_stores_have_the_order_that_ggml_cuda_fuses(model: _native.Model) -> None:
    """Of keys in each layer; logits are the same to the bit."""
    fused, plain = engine(model), engine(model, fused_stores=False)
    count = [" ".join(e.operations(8)).count("ROPE VIEW SET_ROWS") for e in (fused, plain)]
    assert count == [model.n_layer, 0]
    assert (fused.logits(prompt(model, 40)) == plain.logits(prompt(model, 40))).all()
