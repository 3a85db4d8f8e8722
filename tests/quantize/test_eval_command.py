"""trimode-quantize eval: what is refused, and the command's options."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pexpect
import pytest
from click.testing import CliRunner
from support.convert_helpers import files_in
from support.quantize_helpers import COMMAND, QUICK

from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import lora_path
from pytrimode.quantize import cli, quantize
from pytrimode.quantize.evaluation.evaluation import evaluate
from pytrimode.quantize.evaluation.report import markdown
from pytrimode.quantize.evaluation.results import Evaluation
from pytrimode.quantize.evaluation.store import Store

pytestmark = pytest.mark.slow

# --- What is refused -----------------------------------------------------------------------------------------------


def test_base_logits_of_something_else_are_refused(q8_gguf: Path, q4_gguf: Path, unseen: str, tmp_path: Path) -> None:
    store, small = tmp_path / "base.logits", replace(QUICK, max_chunks=1, mask_ratios=(), thresholds=(), max_tokens=1)

    def refused(said: str, base: Path = q8_gguf, text: str = unseen, **changes: Any) -> None:
        before = store.read_bytes()
        with pytest.raises(ConversionError, match=said):
            evaluate(base, loras=[], text=text, options=replace(small, **changes), base_logits=store)
        assert store.read_bytes() == before

    evaluate(q8_gguf, loras=[], text=unseen, options=small, base_logits=store)
    refused("another base", base=q4_gguf)
    refused("another text", text=unseen + "!")
    refused("another context size: 256 there, 128 now", n_ctx=128)
    refused("another block length: 16 there, 8 now", block_length=8)
    refused("another seed", seed=1)
    store.write_text("something else, long enough to be looked at" * 30)
    refused("no file of base logits")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE somebodys (data)")
    other.close()
    store.write_bytes((tmp_path / "other.db").read_bytes())
    refused("no file of base logits")


def test_two_runs_do_not_share_a_file(tmp_path: Path) -> None:
    with Store(tmp_path / "base.logits", {"base": "a"}) as store, pytest.raises(ConversionError, match="another run"):
        Store(tmp_path / "base.logits", {"base": "a"})
    store.path.unlink()
    with pytest.raises(ConversionError, match="does not exist: create it first"):
        Store(tmp_path / "nowhere" / "base.logits", {})


def test_files_of_another_model_are_refused(q8_gguf: Path, random_gguf: Path, unseen: str, tmp_path: Path) -> None:
    small = replace(QUICK, max_chunks=1, mask_ratios=(), thresholds=(), max_tokens=1)
    with pytest.raises(ConversionError, match=r"random\.gguf: 512 tokens .* compare files of one model"):
        evaluate(q8_gguf, [random_gguf], loras=[], text=unseen, options=small)
    with pytest.raises(ConversionError, match="adapter, expected a model"):
        evaluate(q8_gguf, [lora_path(q8_gguf)], text=unseen, options=small)
    with pytest.raises(ConversionError, match="model, expected a drafter LoRA"):
        evaluate(q8_gguf, loras=[q8_gguf], text=unseen, options=small)


def test_a_model_without_mask_token_has_causal_figures_only(q8_gguf: Path, unseen: str, tmp_path: Path) -> None:
    plain = tmp_path / "plain.gguf"
    quantize(q8_gguf, plain, "copy", lora=False, metadata=["tokenizer.ggml.mask_token_id="])
    small = replace(QUICK, max_chunks=1, max_tokens=4)
    found = evaluate(plain, [plain], text=unseen, options=small)
    assert [list(file["rows"]) for file in found["files"]] == [["causal"]] * 2
    assert [list(file["answers"]) for file in found["files"]] == [["ar"]] * 2
    assert "| PPL | causal | ar: as base |" in markdown(found)
    with pytest.raises(ConversionError, match="mask token 100, the base has 2048 and -1"):
        evaluate(plain, [q8_gguf], text=unseen, options=small)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{dir}/nowhere.gguf"], "nowhere.gguf: not found"),
        (["{dir}/short.txt"], "not a GGUF file"),
        (["{model}", "{dir}/nowhere.gguf"], "nowhere.gguf: not found"),
        (["{model}", "-f", "{dir}/short.txt"], "tokens, one chunk needs 512: give a longer text"),
        (["{model}", "-f", "{dir}/nowhere.txt"], "nowhere.txt: cannot be read"),
        (["{model}", "-c", "32"], "blocks of 32 tokens do not fit into the second half of 32"),
        (["{model}", "--prompts", "{dir}/nowhere.json"], "nowhere.json: cannot be read"),
        (["{model}", "--prompts", "{dir}/bad.json"], "an object of lists is needed"),
        (["{model}", "--mask-ratios", "0.5,1"], "mask ratio 1: must be above 0 and below 1"),
        (["{model}", "--mask-ratios", "some"], "'some' is not a list of numbers"),
        (["{model}", "--thresholds", "0.5,2"], "the numbers must be from 0 to 1"),
        (["{model}", "--lora", "{dir}/nowhere.gguf"], "nowhere.gguf: not found"),
        (["{model}", "-ngl", "many"], "expected a number of layers"),
        (["{model}", "--card", "{dir}/short.txt"], "exists already: give --force"),
        (["{model}", "--base-logits", "{dir}/bad.json"], "no file of base logits"),
        (["{model}", "--base-logits", "{dir}"], "cannot be opened"),
    ],
)
def test_failures_are_one_line(arguments: list[str], said: str, q8_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("hello")
    (tmp_path / "bad.json").write_text('{"all": "no list"}')
    given = [argument.format(model=q8_gguf, dir=tmp_path) for argument in arguments]
    result = CliRunner().invoke(cli.main, ["eval", *given])
    assert result.exit_code in (1, 2), result.output
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert files_in(tmp_path) == {"short.txt", "bad.json"}
    assert (tmp_path / "short.txt").read_text() == "hello"


def eval_json(*arguments: object) -> Evaluation:
    """Of a very quick evaluation."""
    quick = "-c 128 --chunks 1 --mask-ratios 0.5 --thresholds= -B 16 -n 4 --speed-rounds 0 -t 1 -ngl 0 --json -q"
    result = CliRunner().invoke(cli.main, ["eval", *map(str, arguments), *quick.split()])
    assert result.exit_code == 0, result.output
    found: Evaluation = json.loads(result.stdout)
    return found


def test_options_of_the_command_reach_the_evaluation(q8_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("<s>[INST]What is 47 + 85?[/INST]" * 30)
    (tmp_path / "prompts.txt").write_text("What is 47 + 85?\nSpell castle.\n")
    given = ["-f", tmp_path / "text.txt", "--prompts", tmp_path / "prompts.txt"]
    usual = eval_json(q8_gguf, *given)
    assert usual["about"]["prompts"] == 2
    assert (usual["about"]["n_ctx"], usual["about"]["chunks"], usual["about"]["mask_ratios"]) == (128, 1, [0.5])
    lora = lora_path(q8_gguf)
    assert [one["file"] for one in usual["files"][0]["adapters"]] == [lora.name]
    assert eval_json(q8_gguf, *given, "--no-lora")["files"][0]["adapters"] == []
    assert len(eval_json(q8_gguf, *given, "--lora", lora, "--lora", lora)["files"][0]["adapters"]) == 2
    special = eval_json(q8_gguf, *given, "--parse-special")
    assert special["about"]["tokens"] < usual["about"]["tokens"]
    other = eval_json(q8_gguf, *given, "--seed", 1)["files"][0]["rows"]
    assert other["causal"] == usual["files"][0]["rows"]["causal"]
    assert other["block 0.5"] != usual["files"][0]["rows"]["block 0.5"]


def test_a_terminal_sees_what_is_being_done(q8_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("Spell castle.")
    quick = "-c 128 --chunks 2 --mask-ratios 0.5 --thresholds 0.9 -B 16 -n 4 --speed-rounds 0 -t 1"
    arguments = ["eval", str(q8_gguf), "--prompts", str(tmp_path / "prompts.txt"), *quick.split()]
    child = pexpect.spawn(COMMAND[0], [*COMMAND[1:], *arguments], timeout=120, encoding="utf-8", dimensions=(40, 200))
    child.expect(pexpect.EOF)
    bars, _, table = child.before.partition("| file | size |")
    # A bar is painted ten times a second: which of the quick steps are seen depends on the machine.
    assert any(step in bars for step in ("rows, causal", "rows, block 0.5", "answers, diffusion 0.9"))
    assert "rows, causal" not in table
