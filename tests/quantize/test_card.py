"""Model cards: what they say is what the files are."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from support.convert_helpers import files_in
from support.synthetic import make_checkpoint

from pytrimode.convert import convert
from pytrimode.gguf.file_names import lora_path
from pytrimode.gguf.sizes import size_text
from pytrimode.quantize import cli, quantize
from pytrimode.quantize.evaluation.evaluation import evaluate
from pytrimode.quantize.evaluation.options import EvaluationOptions
from pytrimode.quantize.evaluation.report import markdown


def card(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["card", *map(str, arguments)])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("card") / "model", hidden=256, ffn=256, lora_rank=4)


@pytest.fixture(scope="module")
def files(checkpoint: Path) -> list[Path]:
    """Two types of one checkpoint, with a licence and a place on the hub."""
    metadata = [
        "general.license=other", "general.license.name=some-licence", "trimode.source_model=somebody/some-model",
    ]  # fmt: skip
    return [
        convert(checkpoint, checkpoint.parent / f"model-{name}.gguf", name, metadata=metadata).path
        for name in ("q8_0", "q4_k_m")
    ]


def test_front_matter_is_what_the_hub_reads(files: list[Path], tmp_path: Path) -> None:
    assert card(*files, "-o", tmp_path / "README.md").exit_code == 0
    _, front, _ = (tmp_path / "README.md").read_text().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert (fields["license"], fields["license_name"]) == ("other", "some-licence")
    assert (fields["base_model"], fields["base_model_relation"]) == ("somebody/some-model", "quantized")
    assert fields["pipeline_tag"] == "text-generation"
    assert {"gguf", "llama.cpp", "pytrimode"} <= set(fields["tags"])
    assert len(fields["tags"]) == len(set(fields["tags"]))


def test_files_sizes_and_digests_are_those_on_the_disk(files: list[Path], checkpoint: Path, tmp_path: Path) -> None:
    assert card(*files, "-o", tmp_path / "README.md").exit_code == 0
    text = (tmp_path / "README.md").read_text()
    for file in [*files, *map(lora_path, files)]:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{file.name}` |"))
        assert size_text(file.stat().st_size) in row
    digests = dict(re.findall(r"^\| (\S+) \| `([0-9a-f]{64})` \|$", text, re.MULTILINE))
    assert "model.safetensors" in digests
    for name, digest in digests.items():
        assert hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() == digest
    assert "`ar`" in text and "`diffusion`" in text and "`self-spec`" in text


def test_commands_name_files_that_there_are(files: list[Path], tmp_path: Path) -> None:
    assert card(*files, "-o", tmp_path / "README.md", "--repo", "me/my-model-GGUF").exit_code == 0
    text = (tmp_path / "README.md").read_text()
    assert f"hf download me/my-model-GGUF {files[1].name} {lora_path(files[1]).name} --local-dir ." in text
    code = "\n".join(re.findall(r"^```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    named = set(re.findall(r"[\w.-]+\.gguf", code))
    assert named == {files[1].name, lora_path(files[1]).name}
    compile("\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)), "card", "exec")


def test_the_base_model_can_be_named(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "README.md"
    assert card(*files, "-o", out, "--base-model", "me/my-model").exit_code == 0
    text = out.read_text()
    assert 'base_model: "me/my-model"' in text and "[me/my-model](https://huggingface.co/me/my-model) as GGUF" in text
    wrong = card(*files, "-o", tmp_path / "other.md", "--base-model", "my-model")
    assert wrong.exit_code == 1 and "base model 'my-model': expected OWNER/NAME" in wrong.output


@pytest.mark.slow
def test_the_importance_matrix_is_named(tiny_gguf: Callable[[str], Path], tmp_path: Path) -> None:
    from support.quantize_helpers import random_importance, write_importance

    source = tiny_gguf("f16")
    imatrix = write_importance(tmp_path / "some.imatrix.gguf", random_importance(source))
    out = quantize(source, tmp_path / "model.gguf", "iq2_xxs", imatrix=imatrix).path
    assert card(out, "-o", tmp_path / "README.md").exit_code == 0
    line = "- `model.gguf`: importance matrix file some.imatrix.gguf, text random.txt, chunks 1"
    assert line in (tmp_path / "README.md").read_text()


@pytest.fixture(scope="module")
def evaluation(tiny_gguf: Callable[[str], Path]) -> Any:
    options = EvaluationOptions(
        n_ctx=128, max_chunks=1, mask_ratios=(), thresholds=(), prompts={}, speed_rounds=0, threads=1, n_gpu_layers=0
    )
    return evaluate(tiny_gguf("f16"), [tiny_gguf("q8_0")], loras=[], options=options)


def test_the_table_is_that_of_the_evaluation(evaluation: Any, q8_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "eval.json").write_text(json.dumps(evaluation))
    result = card(q8_gguf, "--eval", tmp_path / "eval.json", "-o", tmp_path / "README.md")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "README.md").read_text()
    table = [line for line in markdown(evaluation).splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert "\n".join(table) in text
    assert text.index("## Evaluation") < text.index(table[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{dir}/nowhere.gguf"], "nowhere.gguf: not found"),
        (["{dir}/there.md"], "not a GGUF file"),
        (["{model}", "{other}"], "a card is for one model"),
        (["{lora}"], "adapter, expected a model"),
        (["{model}", "--repo", "no name"], "expected OWNER/NAME"),
        (["{model}", "-o", "{dir}/there.md"], "exists already: give --force"),
        (["{model}", "-o", "{dir}/nowhere/README.md"], "nowhere"),
        (["{model}", "--eval", "{dir}/nowhere.json"], "nowhere.json: cannot be read"),
        (["{model}", "--eval", "{dir}/there.md"], "not JSON"),
        (["{model}", "--eval", "{dir}/list.json"], "no evaluation of format"),
        (["{model}", "--eval", "{dir}/half.json"], "an incomplete evaluation"),
    ],
)
def test_failures_leave_nothing(
    evaluation: Any, files: list[Path], q8_gguf: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "there.md").write_text("hello")
    (tmp_path / "list.json").write_text("[1]")
    half = {**evaluation, "files": [{**evaluation["files"][0], "rows": {"causal": {}}}]}
    (tmp_path / "half.json").write_text(json.dumps(half))
    names = {"dir": tmp_path, "model": files[0], "other": q8_gguf, "lora": lora_path(files[0])}
    given = [argument.format(**names) for argument in arguments]
    result = card(*given, *([] if "-o" in given else ["-o", tmp_path / "README.md"]))
    assert result.exit_code == 1, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    assert files_in(tmp_path) == {"there.md", "list.json", "half.json"}
    assert (tmp_path / "there.md").read_text() == "hello"


def test_text_from_metadata_stays_text(checkpoint: Path, tmp_path: Path) -> None:
    """No name breaks the front matter or the table."""
    name = 'a "quoted" | name: *with* <b>markup</b>'
    out = convert(checkpoint, tmp_path / "m.gguf", "q8_0", metadata=[f"general.name={name}"]).path
    assert card(out, "-o", tmp_path / "README.md").exit_code == 0
    text = (tmp_path / "README.md").read_text()
    assert yaml.safe_load(text.split("---\n", 2)[1])["tags"]
    assert r"\<b\>markup" in text and "<b>" not in text
