"""trimode-quantize --target-size: within the budget, better than one type for all, and measured, not guessed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from support.convert_helpers import files_in
from support.quantize_helpers import random_importance, stored_tensors, write_importance
from support.shared import made_once
from support.synthetic import make_checkpoint

from pytrimode import TriMode, _native
from pytrimode.convert import convert
from pytrimode.convert.gguf_input import GgufInput
from pytrimode.convert.type_selection import TypeOptions
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.header import read_gguf_header
from pytrimode.gguf.types import GgmlType
from pytrimode.quantize import cli, quantize
from pytrimode.quantize.evaluation.evaluation import evaluate
from pytrimode.quantize.evaluation.options import EvaluationOptions
from pytrimode.quantize.importance.calibration import calibration_text
from pytrimode.quantize.target.knapsack import MAX_STATES, best_choices
from pytrimode.quantize.target.sensitivity import MASK_RATIO, N_CTX, SensitivityOptions, measure_sensitivity
from pytrimode.quantize.target.target import Target

pytestmark = pytest.mark.slow

UP = "blk.3.ffn_up.weight"


@pytest.fixture(scope="module")
def source(tiny_gguf: Callable[[str], Path]) -> Path:
    return tiny_gguf("f16")


@pytest.fixture(scope="module")
def options(source: Path, tmp_path_factory: pytest.TempPathFactory) -> SensitivityOptions:
    """What was measured once, for all."""

    def options(directory: Path) -> SensitivityOptions:
        return SensitivityOptions(chunks=1, keep=directory / "kept.json", threads=1, n_gpu_layers=0)

    def measure(directory: Path) -> None:
        target = Target(4_000_000, sensitivity=options(directory))
        quantize(source, directory / "unwritten.gguf", "auto", target=target, dry_run=True)

    return options(made_once(tmp_path_factory, "sensitivity", measure))


def size_of(path: Path) -> int:
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.stem}*.gguf") if "lora" not in part.name)


# --- The choice ----------------------------------------------------------------------------------------------------

ITEMS = st.lists(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 50)), min_size=1, max_size=4), min_size=1, max_size=5
)


@given(ITEMS, st.integers(0, 120))
@settings(max_examples=200)
def test_no_other_choice_is_better(items: list[list[tuple[int, int]]], budget: int) -> None:
    fitting = [c for c in itertools.product(*items) if sum(size for size, _ in c) <= budget]
    found = best_choices([[(size, float(loss)) for size, loss in item] for item in items], budget)
    if not fitting:
        assert found is None
        return
    assert found is not None
    chosen = [item[i] for item, i in zip(items, found, strict=True)]
    assert sum(size for size, _ in chosen) <= budget
    assert sum(loss for _, loss in chosen) == min(sum(loss for _, loss in c) for c in fitting)


def test_many_items_use_the_budget_up() -> None:
    """Beyond MAX_STATES sums the best of some are lost, and hardly any of the budget."""
    rng = np.random.default_rng(0)
    items = []
    for _ in range(300):
        sizes, losses = np.sort(rng.integers(10**6, 10**8, 6)), np.sort(rng.random(6))[::-1]
        items.append(list(zip(sizes.tolist(), losses.tolist(), strict=True)))
    budget = 300 * 40_000_000
    found = best_choices(items, budget)
    assert found is not None
    used = sum(item[i][0] for item, i in zip(items, found, strict=True))
    assert budget * (1 - 2 / MAX_STATES) < used <= budget


# --- What is measured ----------------------------------------------------------------------------------------------


def with_weight(source: Path, out: Path, name: str, kind: str) -> Path:
    """A copy of a model in which one weight has been in another type. Its drafter LoRA goes along."""
    quantize(source, out, "copy")
    with GgufInput(out) as file:
        tensor = next(tensor for tensor in file.tensors if tensor.name == name)
        with tensor.file.read(tensor.offset, tensor.offset + tensor.n_bytes) as data:
            rough = _native.encode(data, tensor.kind.name, kind, tensor.shape[-1], 1)
    with out.open("r+b") as changed:
        changed.seek(tensor.offset)
        changed.write(_native.encode(rough, kind, tensor.kind.name, tensor.shape[-1], 1))
    return out


def weight_of(path: Path, name: str) -> bytes:
    header = read_gguf_header(path)
    info = next(info for info in header.tensors if info.name == name)
    start = header.data_start + info.offset
    return path.read_bytes()[start : start + (info.n_bytes or 0)]


def test_a_weight_can_be_replaced(source: Path, tmp_path: Path) -> None:
    """The model is then that of a file with this weight; the cache forgets the old one, which can come back."""
    other = with_weight(source, tmp_path / "other.gguf", UP, "Q4_K")
    tokens = list(range(200, 260))
    with (
        TriMode(source, n_ctx=256, n_threads=1, use_mmap=False) as model,
        TriMode(other, n_ctx=256, n_threads=1) as expected,
    ):
        before = model.logits(tokens, first=40)
        model.set_weight(UP, weight_of(other, UP))
        after = model.logits(tokens, first=40)
        assert np.array_equal(after, expected.logits(tokens, first=40))
        assert not np.array_equal(after, before)
        model.set_weight(UP, weight_of(source, UP))
        assert np.array_equal(model.logits(tokens, first=40), before)
        with pytest.raises(ValueError, match=r"has no tensor blk\.9"):
            model.set_weight("blk.9.ffn_up.weight", b"")
        with pytest.raises(ValueError, match=r"393216 bytes, 3 are given"):
            model.set_weight(UP, b"abc")
        with pytest.raises(ValueError, match="use_mmap=False"):
            expected.set_weight(UP, weight_of(source, UP))


def test_sensitivity_is_the_divergence_of_a_file_with_that_matrix_quantized(
    source: Path, options: SensitivityOptions, tmp_path: Path
) -> None:
    """As `trimode-quantize eval` finds it: half for causal rows, half for blocks."""
    assert options.keep is not None
    measured = json.loads(options.keep.read_text())["tensors"]
    assert len(measured) == 6 * 7 + 2
    other = with_weight(source, tmp_path / "other.gguf", UP, "Q4_K")
    same = EvaluationOptions(
        n_ctx=N_CTX, max_chunks=1, mask_ratios=(MASK_RATIO,), thresholds=(), prompts={}, speed_rounds=0, threads=1,
        n_gpu_layers=0,
    )  # fmt: skip
    found = evaluate(source, [other], text=calibration_text(), options=same)["files"][1]
    rows = {**found["rows"], **found["adapters"][0]["rows"]}
    causal, block, draft = (rows[kind]["kld"] for kind in ("causal", f"block {MASK_RATIO:g}", "draft, LoRA"))
    assert causal is not None and block is not None and draft is not None
    assert measured[UP] == pytest.approx(causal / 2 + block / 4 + draft / 4, rel=1e-6)
    assert measured[UP] > 1e-5


def test_what_is_kept_is_not_measured_again(
    source: Path, options: SensitivityOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted measurement goes on, and a whole one loads no model."""
    assert options.keep is not None
    stored = json.loads(options.keep.read_text())
    half = dict(itertools.islice(stored["tensors"].items(), 42))
    kept = tmp_path / "half.json"
    kept.write_text(json.dumps({**stored, "tensors": half}))
    steps: list[tuple[int, int]] = []
    replaced: list[str] = []
    set_weight = TriMode.set_weight
    monkeypatch.setattr(
        TriMode, "set_weight", lambda self, name, data: (replaced.append(name), set_weight(self, name, data))
    )
    with GgufInput(source) as file:
        again = SensitivityOptions(chunks=1, keep=kept, threads=1, n_gpu_layers=0)
        found = measure_sensitivity(source, file.tensors, again, lambda *step: steps.append(step))
        assert found == stored["tensors"] == json.loads(kept.read_text())["tensors"]
        assert sorted(set(replaced)) == sorted(stored["tensors"].keys() - half.keys())
        assert steps[-1] == (44, 44)
        monkeypatch.setattr(TriMode, "__init__", None)
        assert measure_sensitivity(source, file.tensors, again) == found


# --- Files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_bytes", [2_800_000, 5_123_456, 9_000_000])
def test_the_file_is_within_the_target_and_uses_it(
    source: Path, options: SensitivityOptions, tmp_path: Path, n_bytes: int
) -> None:
    result = quantize(source, tmp_path / "model-{ftype}.gguf", "auto", target=Target(n_bytes, sensitivity=options))
    assert result.path == tmp_path / "model-auto.gguf"
    assert 0.97 * n_bytes < result.path.stat().st_size <= n_bytes
    assert result.n_bytes == result.path.stat().st_size
    assert result.lora_path is not None
    assert result.notes[0].startswith("types of the matrices: ")
    with TriMode(result.path, n_threads=1, n_ctx=256) as model:
        assert np.isfinite(model.logits([1, 200, 201])).all()


def test_bits_per_weight_and_parts(source: Path, options: SensitivityOptions, tmp_path: Path) -> None:
    """Every part has its own header, and all of them count."""
    target = Target(bits_per_weight=5.0, sensitivity=options)
    result = quantize(source, tmp_path / "parts.gguf", "auto", target=target, split_max_bytes=700_000)
    assert len(result.paths) > 4
    assert 4.85 < 8 * size_of(tmp_path / "parts.gguf") / result.n_params <= 5.0


def test_better_than_one_type_for_all_in_the_same_size(
    source: Path, options: SensitivityOptions, unseen: str, tmp_path: Path
) -> None:
    """Less divergence on a text that was not measured on, causal and in drafts, in no more bytes."""
    files = []
    for uniform in ("q3_k_m", "q4_0", "q4_k_m"):
        same = quantize(source, tmp_path / f"{uniform}.gguf", uniform, lora=False).path
        target = Target(same.stat().st_size, sensitivity=options)
        ours = quantize(source, tmp_path / f"like-{uniform}.gguf", "auto", target=target, lora=False).path
        assert ours.stat().st_size <= same.stat().st_size
        files += [same, ours]
    rows = EvaluationOptions(
        n_ctx=256, max_chunks=2, mask_ratios=(), thresholds=(), prompts={}, speed_rounds=0, threads=1, n_gpu_layers=0
    )
    found = evaluate(source, files, loras=[], text=unseen, options=rows)["files"][1:]
    for theirs, best in zip(found[::2], found[1::2], strict=True):
        for kind in ("causal", "draft"):
            assert (best["rows"][kind]["kld"] or 0) < (theirs["rows"][kind]["kld"] or 0), theirs["file"]


def test_wishes_and_types_to_choose_from_are_kept(source: Path, options: SensitivityOptions, tmp_path: Path) -> None:
    wishes = TypeOptions(tensor_types=(("ffn_gate", GgmlType.Q5_0),), output_tensor_type=GgmlType.Q8_0)
    target = Target(5_000_000, types=(GgmlType.Q3_K, GgmlType.Q6_K), sensitivity=options)
    path = quantize(source, tmp_path / "model.gguf", "auto", target=target, types=wishes).path
    kinds = {name: kind for name, (kind, _) in stored_tensors(path).items()}
    assert {kind for name, kind in kinds.items() if "ffn_gate" in name} == {"Q5_0"}
    assert kinds["output.weight"] == "Q8_0"
    assert {kind for name, kind in kinds.items() if "ffn_gate" not in name and name != "output.weight"} == {
        "F32", "Q3_K", "Q6_K",
    }  # fmt: skip


def test_an_importance_matrix_opens_smaller_types(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", hidden=256, ffn=256, head_dim=64)
    source = convert(checkpoint, tmp_path / "source.gguf", "f16").path
    imatrix = write_importance(tmp_path / "imatrix.gguf", random_importance(source))
    target = Target(bits_per_weight=2.7, sensitivity=SensitivityOptions(chunks=1, threads=1))
    with pytest.raises(ConversionError, match=r"is too small: .*with --imatrix there are"):
        quantize(source, tmp_path / "without.gguf", "auto", target=target)
    result = quantize(source, tmp_path / "with.gguf", "auto", target=target, imatrix=imatrix)
    assert result.bits_per_weight <= 2.7
    assert any(kind.startswith("IQ2") for kind, _ in stored_tensors(result.path).values())


def test_rows_that_are_no_blocks_of_256(tmp_path: Path) -> None:
    """Types of 32 weights per block, and what is quantized already stays or becomes smaller."""
    checkpoint = make_checkpoint(tmp_path / "model", hidden=96, ffn=160, lora_rank=4)
    source = convert(checkpoint, tmp_path / "source.gguf", "q8_0").path
    target = Target(int(0.75 * source.stat().st_size), sensitivity=SensitivityOptions(chunks=1, threads=1))
    with pytest.raises(ConversionError, match="--allow-requantize"):
        quantize(source, tmp_path / "small.gguf", "auto", target=target)
    result = quantize(source, tmp_path / "small.gguf", "auto", target=target, allow_requantize=True)
    assert 0.95 * (target.n_bytes or 0) < result.path.stat().st_size <= (target.n_bytes or 0)
    kinds = {kind for kind, _ in stored_tensors(result.path).values()} - {"F32"}
    assert len(kinds) > 1
    assert kinds <= {"Q4_0", "Q4_1", "IQ4_NL", "Q5_0", "Q5_1", "Q8_0"}


# --- The command ---------------------------------------------------------------------------------------------------


def test_the_command(source: Path, options: SensitivityOptions, tmp_path: Path) -> None:
    given = ["--sensitivity", str(options.keep), "--sensitivity-chunks", "1", "-t", "1", "-ngl", "0"]
    out = str(tmp_path / "model.gguf")
    given += ["--target-types", "q3_k,q4_k,q8_0"]
    dry = CliRunner().invoke(cli.main, [str(source), out, "--target-size", "4MB", *given, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert files_in(tmp_path) == set()
    assert "auto: " in dry.stdout
    result = CliRunner().invoke(cli.main, [str(source), out, "auto", "--target-size", "4MB", *given])
    assert result.exit_code == 0, result.output
    assert "types of the matrices: " in result.stderr
    assert 0.97 * 4e6 < (tmp_path / "model.gguf").stat().st_size <= 4e6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a TYPE such as q4_k_m, or --target-size"),
        (["auto"], "give a TYPE such as q4_k_m, or --target-size"),
        (["q4_k_m", "--target-size", "4MB"], "type q4_k_m and a target contradict each other"),
        (["--target-size", "4MB", "--target-bpw", "4"], "either a size or a number of bits per weight"),
        (["--target-size", "4MB", "--pure"], "--pure and a target contradict each other"),
        (["--target-size", "1kB"], "the target of 1.0 kB is too small"),
        (["--target-size", "1MB"], "the target of 1.00 MB is too small"),
        (["--target-size", "20MB"], "the target has room for the model as it is"),
        (["--target-size", "much"], "is not a size"),
        (["--target-bpw", "0"], "0.0 is not in the range"),
        (["--target-size", "4MB", "--target-types", "q4_k,q9"], "'q9' is none of"),
        (["--target-size", "4MB", "--tensor-type", "nothing=q4_0"], "no tensor has such a name"),
        (["--target-size", "4MB", "--sensitivity", "{dir}/other.json"], "no file of sensitivities"),
        (["--target-size", "4MB", "--sensitivity", "{dir}/another.json"], "was measured with another model"),
    ],
)
def test_failures_leave_nothing(
    source: Path, options: SensitivityOptions, tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert options.keep is not None
    (tmp_path / "other.json").write_text("[]")
    stored = json.loads(options.keep.read_text())
    (tmp_path / "another.json").write_text(json.dumps({**stored, "model": "0"}))
    given = ["--sensitivity", str(options.keep), "--sensitivity-chunks", "1", *arguments, "-t", "1", "-ngl", "0"]
    given = [argument.format(dir=tmp_path) for argument in given]
    result = CliRunner().invoke(cli.main, ["quantize", str(source), str(tmp_path / "out.gguf"), *given])
    assert result.exit_code in (1, 2), result.output
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert files_in(tmp_path) == {"other.json", "another.json"}
