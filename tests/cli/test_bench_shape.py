"""`pytrimode bench --shape --acceptance`: a model of random weights shows what a machine can do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from pytrimode import TriMode
from pytrimode.bench.plan import STOCK
from pytrimode.bench.random_model import write_random_model
from pytrimode.cli import run
from pytrimode.convert import lora_path
from pytrimode.gguf.header import read_gguf_header
from pytrimode.plan.model_shape import BUILT_IN, ModelShape

pytestmark = pytest.mark.slow

QUICK = ["-t", "1", "-n", "40", "-r", "2", "-c", "256"]


@pytest.fixture(scope="module")
def small() -> ModelShape:
    """The 3B's, everything but the vocabulary a twelfth."""
    hparams = replace(BUILT_IN["3B"].hparams, hidden=256, ffn=768, n_layers=3, vocab_size=4096, head_dim=32, n_heads=8)
    return ModelShape("small", hparams, 16)


def test_no_two_tokens_have_the_same_logits(small: ModelShape, tmp_path: Path) -> None:
    """Equal rows of the head made ties of every answer of a random model, and what broke them was the kernel."""
    whole = replace(small, hparams=replace(small.hparams, vocab_size=BUILT_IN["3B"].hparams.vocab_size))
    write_random_model(tmp_path / "random.gguf", whole, "q8_0", n_layers=1)
    reader = GGUFReader(tmp_path / "random.gguf")
    (head,) = (tensor.data for tensor in reader.tensors if tensor.name == "output.weight")
    assert len({row.tobytes() for row in head}) == whole.hparams.vocab_size


def test_drafts_by_lot_and_the_answer_comes_last(
    capsys: pytest.CaptureFixture[str], checkpoint_dir: Path, tmp_path: Path
) -> None:
    rates = tmp_path / "rates.json"
    rates.write_text("[1.0]")
    command = ["bench", "--shape", str(checkpoint_dir), "--type", "q4_k_m", "--layers", "1", *QUICK, "-B", "8"]
    assert run([*command, "--acceptance", str(rates)]) == 0
    out = capsys.readouterr().out
    assert "- acceptance: SIMULATED, texts are meaningless: rates.json" in out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    by_mode = {row[0]: dict(zip(rows[0], row, strict=False)) for row in rows[2:6]}
    assert set(by_mode) == {"ar", "self-spec 8", "auto", STOCK}
    assert by_mode["self-spec 8"]["tokens/cycle"] in ("7.80", "8.00")  # the last cycle is shorter
    assert by_mode["ar"][f"x {STOCK}"]
    answer = out.splitlines()[-1]
    assert answer.startswith("auto ") and f"of {STOCK}" in answer and "of ar" in answer


def test_json_marks_what_was_simulated(capsys: pytest.CaptureFixture[str], q8_gguf: Path) -> None:
    command = ["bench", str(q8_gguf), *QUICK, "-m", "ar,self-spec", "-B", "4", "--prompts", "1", "--category", "chat"]
    for more, simulated in ((["--acceptance", "published"], True), ([], False)):
        assert run([*command, *more, "-o", "json"]) == 0
        results = json.loads(capsys.readouterr().out)["results"]
        assert {r["mode"]: r["simulated_acceptance"] for r in results} == {"ar": False, "self-spec": simulated}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "--shape", "3B"], "give one of them"),
        (["MODEL", "--acceptance", "published", "--temp", "1"], "greedy"),
        (["MODEL", "--acceptance", "published", "-m", "dlm"], "leave it out of --mode"),
        (["MODEL", "--acceptance", "missing.json"], "missing.json: no such file; give published, 3B, 8B, 14B"),
        (["--shape", "5B"], "5B: no such file; give 3B, 8B, 14B"),
        (["--shape", "3B", "--layers", "27"], "layers 27: Nemotron-Labs-Diffusion-3B has 26"),
        (["--shape", "3B", "--type", "q9"], "q9"),
    ],
)
def test_wrong_usage_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], q8_gguf: Path, arguments: Sequence[str], message: str
) -> None:
    arguments = [str(q8_gguf) if argument == "MODEL" else argument for argument in arguments]
    assert run(["bench", "-t", "1", *arguments]) in (1, 2)
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert not captured.out


@pytest.mark.parametrize("outtype", ["q8_0", "q4_k_m", "iq4_xs", "iq2_xxs", "mxfp4", "bf16"])
def test_random_weights_in_every_kind_of_type(tmp_path: Path, small: ModelShape, outtype: str) -> None:
    path = tmp_path / "random.gguf"
    write_random_model(path, small, outtype, n_layers=2)
    header = read_gguf_header(path)
    assert header.metadata["mistral3.block_count"] == 2 and len(header.tensors) == 3 + 2 * 9
    with TriMode(path, n_ctx=256, n_threads=1) as model:
        assert model.lora_rank == 16 and model.n_vocab == 4096
        tokens = model.tokenize("Hello, what is this?")
        rows = model.logits(tokens)
        block = [*tokens, *[model.mask_token_id] * 3]
        drafts, plain = (model.logits(block, block_start=len(tokens) - 1, lora=lora) for lora in (True, False))
        assert np.isfinite(rows).all() and np.isfinite(drafts).all()
        assert rows.std() > 0.05 and len(set(rows.argmax(axis=1))) > 1
        assert (drafts[-3:] != plain[-3:]).any()


def test_equal_arguments_give_equal_files(tmp_path: Path, small: ModelShape) -> None:
    paths = [tmp_path / name for name in ("a.gguf", "b.gguf")]
    for path in paths:
        write_random_model(path, small, "q4_k_m")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert lora_path(paths[0]).read_bytes() == lora_path(paths[1]).read_bytes()
