"""Every option of trimode-convert and trimode-quantize, and that what fails leaves nothing behind."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from click.testing import CliRunner, Result
from support.convert_helpers import files_in, read_metadata
from support.quantize_helpers import Importance, random_importance, run_quantize, stored_tensors, write_importance
from support.synthetic import make_checkpoint

from pytrimode import TriMode
from pytrimode.convert import cli as convert_cli
from pytrimode.convert import convert
from pytrimode.gguf.sizes import parse_size
from pytrimode.quantize import cli as quantize_cli
from pytrimode.quantize import quantize

HEAD, EMBEDDING = "output.weight", "token_embd.weight"
ZEROS = "0" * 64


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("options") / "model", hidden=256, ffn=256, lora_rank=32)


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> Path:
    """The checkpoint in BF16, its drafter LoRA beside it."""
    return convert(checkpoint, checkpoint.parent / "source.gguf", "bf16").path


@pytest.fixture(scope="module")
def importance(source: Path) -> Importance:
    return random_importance(source)


@pytest.fixture(scope="module")
def imatrix(source: Path, importance: Importance) -> Path:
    return write_importance(source.parent / "imatrix.gguf", importance)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out/model.gguf"


@pytest.fixture(params=["convert", "quantize"])
def command(request: pytest.FixtureRequest, checkpoint: Path, source: Path) -> Callable[..., Result]:
    """Both commands, which share their options: command(out, type, options...)."""

    def run(out: Path, outtype: str, *options: object) -> Result:
        extra = [str(option) for option in options]
        if request.param == "convert":
            return CliRunner().invoke(convert_cli.main, [str(checkpoint), str(out), f"--{outtype}", *extra])
        return CliRunner().invoke(quantize_cli.main, [str(source), str(out), outtype, *extra])

    return run


def types_of(path: Path) -> dict[str, str]:
    return {name: kind for name, (kind, _) in stored_tensors(path).items()}


def refused(result: Result, out: Path) -> str:
    """The message of a command that failed cleanly and left nothing behind."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert files_in(out.parent) == set()
    assert result.output.startswith("Error: ")
    assert len(result.output.splitlines()) == 1
    return result.output


def test_both_commands_write_the_same_tensors(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    one = convert(checkpoint, tmp_path / "one.gguf", "q4_k_m")
    two = quantize(source, tmp_path / "two.gguf", "Q4_K_M")
    assert stored_tensors(one.path) == stored_tensors(two.path)
    assert one.lora_path and two.lora_path
    assert one.lora_path.read_bytes() == two.lora_path.read_bytes()
    assert read_metadata(one.path) == read_metadata(two.path)


def test_importance_matrix_changes_the_bytes(command: Callable[..., Result], out: Path, imatrix: Path) -> None:
    assert command(out, "q4_k_s").exit_code == 0
    assert command(out.with_name("with.gguf"), "q4_k_s", "--imatrix", imatrix).exit_code == 0
    plain, weighted = stored_tensors(out), stored_tensors(out.with_name("with.gguf"))
    changed = {name for name in plain if plain[name] != weighted[name]}
    assert changed == {name for name, (kind, _) in plain.items() if kind != "F32"} - {EMBEDDING}
    metadata = read_metadata(out.with_name("with.gguf"))
    assert metadata["quantize.imatrix.file"] == "imatrix.gguf"
    assert metadata["quantize.imatrix.dataset"] == "random.txt"


def test_old_imatrix_format_gives_the_same_file(source: Path, importance: Importance, imatrix: Path, out: Path) -> None:
    old = out.parent.with_name("old.dat")
    parts = [struct.pack("<i", len(importance))]
    for name, values in importance.items():
        parts.append(struct.pack(f"<i{len(name)}sii", len(name), name.encode(), 2, values.size))
        parts.append((2 * values).tobytes())
    parts.append(struct.pack("<ii5s", 1, 5, b"a.txt"))
    old.write_bytes(b"".join(parts))
    ours = quantize(source, out, "iq2_xxs", imatrix=old).path
    same = quantize(source, out.with_name("same.gguf"), "iq2_xxs", imatrix=imatrix).path
    assert stored_tensors(ours) == stored_tensors(same)
    assert read_metadata(ours)["quantize.imatrix.dataset"] == "a.txt"


def test_types_of_single_tensors(command: Callable[..., Result], out: Path) -> None:
    wishes = ["--output-tensor-type", "Q8_0", "--token-embedding-type", "q5_0"]
    wishes += ["--tensor-type", r"blk\.1\.ffn_up=q6_k", "--tensor-type", "ffn_up=q3_k"]
    assert command(out, "q4_k_m", *wishes).exit_code == 0
    found = types_of(out)
    assert found[HEAD] == "Q8_0"
    assert found[EMBEDDING] == "Q5_0"
    assert found["blk.1.ffn_up.weight"] == "Q6_K"
    assert found["blk.0.ffn_up.weight"] == "Q3_K"
    assert found["blk.0.ffn_gate.weight"] == "Q4_K"


def test_leave_output_tensor(command: Callable[..., Result], out: Path) -> None:
    assert command(out, "q4_0", "--leave-output-tensor").exit_code == 0
    assert types_of(out)[HEAD] == "BF16"


def test_pure(command: Callable[..., Result], out: Path) -> None:
    assert command(out, "q4_0", "--pure").exit_code == 0
    assert set(types_of(out).values()) == {"F32", "Q4_0"}


def test_dry_run_says_what_would_be_written_and_writes_nothing(command: Callable[..., Result], out: Path) -> None:
    result = command(out.with_name("m-{ftype}.gguf"), "q4_k_m", "--dry-run")
    assert result.exit_code == 0
    assert files_in(out.parent) == set()
    lines = result.output.splitlines()
    assert f"would write {out.with_name('m-q4_k_m.gguf')}" in lines
    assert f"would write {out.with_name('m-q4_k_m-drafter-lora.gguf')}" in lines
    down = next(line for line in lines if line.startswith("blk.1.ffn_down.weight "))
    assert down.split()[1:] == ["256", "x", "256", "bf16", "->", "q6_k", "53.8", "kB"]
    assert command(out, "q4_k_m").exit_code == 0
    planned = {line.split()[0]: line.split()[-3].upper() for line in lines if " -> " in line}
    assert planned == types_of(out)


def test_dry_run_does_not_mind_an_existing_file(command: Callable[..., Result], out: Path) -> None:
    out.write_bytes(b"precious")
    assert command(out, "q8_0", "--dry-run").exit_code == 0
    assert out.read_bytes() == b"precious"


def test_metadata_is_edited(command: Callable[..., Result], out: Path) -> None:
    edits = ["general.name=Hello: world", "trimode.block_length=16", "trimode.threshold=0.5", "my.key=text"]
    edits += ["my.number=u32:7", "my.flag=bool:true", "general.size_label=", "tokenizer.ggml.add_bos_token=false"]
    assert command(out, "f16", *(part for edit in edits for part in ("--metadata", edit))).exit_code == 0
    metadata = read_metadata(out)
    found = [metadata.get(key) for key in ("general.name", "trimode.block_length", "trimode.threshold", "my.key")]
    assert found == ["Hello: world", 16, 0.5, "text"]
    found = [
        metadata.get(key) for key in ("my.number", "my.flag", "general.size_label", "tokenizer.ggml.add_bos_token")
    ]
    assert found == [7, True, None, False]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("nonsense", "expected KEY=VALUE"),
        ("general.architecture=llama", "general.architecture cannot be changed"),
        ("trimode.block_length=many", "trimode.block_length is of type u32, 'many' is not"),
        ("trimode.block_length=-1", "is of type u32"),
        ("tokenizer.ggml.tokens=a", "neither a number, a text nor true or false"),
        ("my.flag=bool:yes", "is of type bool, 'yes' is not"),
    ],
)
def test_impossible_metadata(edit: str, said: str, command: Callable[..., Result], out: Path) -> None:
    assert said in refused(command(out, "q8_0", "--metadata", edit), out)


def test_split_files_are_one_model(command: Callable[..., Result], out: Path) -> None:
    """Parts hold the tensors of the whole; both engines load them, and copying makes them one again."""
    assert command(out, "q8_0").exit_code == 0
    whole = stored_tensors(out)
    parts_dir = out.parent / "parts"
    parts_dir.mkdir()
    result = command(parts_dir / "model.gguf", "q8_0", "--split-max-size", "300K")
    assert result.exit_code == 0, result.output
    parts = sorted(parts_dir.glob("model-0*.gguf"))
    assert len(parts) > 2
    assert [part.name for part in parts] == [f"model-{i + 1:05d}-of-{len(parts):05d}.gguf" for i in range(len(parts))]
    assert "in 3 parts" in result.output or f"in {len(parts)} parts" in result.output
    assert {name: data for part in parts for name, data in stored_tensors(part).items()} == whole
    assert all(sum(len(data) for _, data in stored_tensors(part).values()) <= 300_000 for part in parts)
    with TriMode(parts[0], n_ctx=64, n_threads=1) as model:
        assert model.has_lora
        split_logits = model.logits([200, 201, 202])
    with TriMode(out, n_ctx=64, n_threads=1) as model:
        assert np.array_equal(model.logits([200, 201, 202]), split_logits)
    stock = llama_cpp.Llama(str(parts[0]), n_ctx=64, verbose=False, n_threads=1)
    assert stock.create_completion("a", max_tokens=2)["usage"]["completion_tokens"] >= 1
    joined = quantize(parts[0], out.with_name("joined.gguf"), "copy").path
    assert stored_tensors(joined) == whole
    assert not [key for key in read_metadata(joined) if key.startswith("split.")]


def test_keep_split(source: Path, out: Path) -> None:
    parts = quantize(source, out, "copy", split_max_bytes=500_000, lora=False).paths
    kept = run_quantize(parts[0], out.with_name("kept.gguf"), "q4_k_m", "--keep-split", "--no-lora")
    assert kept.returncode == 0, kept.stderr
    for i, part in enumerate(parts):
        same = out.with_name(f"kept-{i + 1:05d}-of-{len(parts):05d}.gguf")
        assert stored_tensors(same).keys() == stored_tensors(part).keys()


@pytest.mark.slow
@pytest.mark.parametrize("which", [1, 2])
def test_incomplete_split(which: int, source: Path, out: Path, tmp_path: Path) -> None:
    parts = quantize(source, tmp_path / "m.gguf", "copy", split_max_bytes=500_000).paths
    parts[which].unlink()
    result = run_quantize(parts[0], out, "q8_0")
    assert result.returncode == 1
    assert f"{parts[which]}: not found (1 of {len(parts)} parts are missing)" in result.stderr
    other = run_quantize(parts[3 - which], out, "q8_0")
    assert "not the first: give the first" in other.stderr
    assert files_in(out.parent) == set()


def test_requantizing_must_be_allowed(source: Path, out: Path, tmp_path: Path) -> None:
    q8 = quantize(source, tmp_path / "q8.gguf", "q8_0").path
    result = CliRunner().invoke(quantize_cli.main, [str(q8), str(out), "q4_0"])
    assert "start from the checkpoint or an F16 file, or give --allow-requantize" in refused(result, out)
    again = quantize(q8, out, "q4_0", allow_requantize=True).path
    assert types_of(again)["blk.0.ffn_up.weight"] == "Q4_0"


def test_copy_changes_nothing(source: Path, out: Path) -> None:
    copied = quantize(source, out, "copy")
    assert copied.path.read_bytes() == source.read_bytes()
    assert copied.lora_path
    assert copied.lora_path.read_bytes() == source.with_name("source-drafter-lora.gguf").read_bytes()


@pytest.mark.parametrize(("kind", "stored"), [("q8_0", "Q8_0"), ("f16", "F16"), ("q4_0", "Q4_0")])
def test_type_of_the_drafter_lora(kind: str, stored: str, command: Callable[..., Result], out: Path) -> None:
    assert command(out, "f16", "--lora-type", kind).exit_code == 0
    adapter = out.with_name("model-drafter-lora.gguf")
    assert set(types_of(adapter).values()) == {stored}
    tokens = list(range(200, 216))
    with TriMode(out, n_ctx=64, n_threads=1) as model:
        drafted = model.logits(tokens, block_start=4, lora=True)
        plain = model.logits(tokens, block_start=4)
    assert np.abs(drafted - plain).max() > 0.1


def test_no_lora(command: Callable[..., Result], out: Path) -> None:
    assert command(out, "f16", "--no-lora").exit_code == 0
    assert files_in(out.parent) == {"model.gguf"}


def test_hashes_of_the_source_are_recorded(checkpoint: Path, out: Path) -> None:
    metadata = read_metadata(convert(checkpoint, out, "q4_0").path)
    files = metadata["trimode.source.files"]
    assert files == ["config.json", "tokenizer.json", "model.safetensors"]
    assert metadata["trimode.source.sha256"] == [
        hashlib.sha256((checkpoint / str(name)).read_bytes()).hexdigest() for name in files
    ]  # fmt: skip
    again = read_metadata(quantize(out, out.with_name("again.gguf"), "copy").path)
    assert again["trimode.source.sha256"] == metadata["trimode.source.sha256"]
    assert "trimode.source.sha256" not in read_metadata(convert(checkpoint, out, hashes=False, force=True).path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outtype", "options", "said"),
    [
        ("iq2_xs", [], "iq2_xs needs an importance matrix: give --imatrix FILE"),
        ("q4_0", ["--tensor-type", "ffn_up=iq2_xxs"], "--tensor-type ffn_up iq2_xxs needs an importance matrix"),
        ("q4_0", ["--token-embedding-type", "iq1_s"], "--token-embedding-type iq1_s needs an importance matrix"),
        ("q4_0", ["--tensor-type", "ffn_up(=q6_k"], "--tensor-type ffn_up(: not a regular expression"),
        ("q4_0", ["--tensor-type", "nowhere=q6_k"], "--tensor-type nowhere: no tensor has such a name"),
        ("f16", ["--tensor-type", "ffn_up=q6_k"], "works with quantized output types only, not with f16"),
        ("q4_0", ["--imatrix", "nowhere.gguf"], "nowhere.gguf: cannot be read: No such file"),
        ("q4_0", ["--imatrix", __file__], "not an importance matrix, or damaged"),
    ],
)
def test_impossible_wishes(
    outtype: str, options: list[str], said: str, command: Callable[..., Result], out: Path
) -> None:
    assert said in refused(command(out, outtype, *options), out)


def test_rows_that_do_not_fit_the_wished_type(tmp_path: Path, out: Path) -> None:
    model = make_checkpoint(tmp_path / "model", hidden=96)
    result = CliRunner().invoke(convert_cli.main, [str(model), str(out), "--q8_0", "--output-tensor-type", "q6_k"])
    assert "the rows of output.weight have 96 elements, which do not divide into blocks of 256" in refused(result, out)


@pytest.mark.parametrize("damage", ["missing", "length", "nan"])
def test_importance_matrix_of_another_model(
    damage: str, importance: Importance, command: Callable[..., Result], out: Path, tmp_path: Path
) -> None:
    changed = dict(importance)
    name = "blk.1.ffn_down.weight"
    if damage == "missing":
        del changed[name]
    else:
        changed[name] = changed[name][:128] if damage == "length" else changed[name] * np.float32("nan")
    said = {"missing": f"no entry for {name}", "length": f"{name}: 128 columns, the model has 256", "nan": "not finite"}
    bad = write_importance(tmp_path / "bad.gguf", changed)
    assert said[damage] in refused(command(out, "q4_k_m", "--imatrix", bad), out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--split-max-size", "big"], "'big' is not a size"),
        (["--tensor-type", "q6_k"], "expected REGEX=TYPE"),
        (["--tensor-type", "ffn=q9"], "'q9' is none of f32, f16, "),
        (["--output-tensor-type", "i32"], "'i32' is none of "),
        (["--threads", "0"], "0 is not in the range x>=1"),
    ],
)
def test_usage_errors(arguments: list[str], said: str, command: Callable[..., Result], out: Path) -> None:
    result = command(out, "q8_0", *arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert files_in(out.parent) == set()


def test_inputs_that_are_no_model(source: Path, out: Path, tmp_path: Path, checkpoint: Path) -> None:
    def said(path: Path) -> str:
        return refused(CliRunner().invoke(quantize_cli.main, [str(path), str(out), "q8_0"]), out)

    (tmp_path / "text.gguf").write_text("hello")
    data = source.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[: len(data) // 2])
    assert "not found" in said(tmp_path / "nothing.gguf")
    assert "trimode-convert reads checkpoints" in said(checkpoint)
    assert "not a GGUF file" in said(tmp_path / "text.gguf")
    assert "it is truncated" in said(tmp_path / "cut.gguf")
    assert "general.type is 'adapter', expected 'model'" in said(source.with_name("source-drafter-lora.gguf"))


def test_input_is_never_its_own_output(source: Path) -> None:
    before = source.read_bytes()
    done = run_quantize(source, source, "q8_0", "--force")
    assert done.returncode == 1
    assert "is the input itself: give another name" in done.stderr
    assert source.read_bytes() == before


def test_existing_outputs_stay_without_force(command: Callable[..., Result], out: Path) -> None:
    out.write_bytes(b"precious")
    result = command(out, "q8_0")
    assert result.exit_code == 1
    assert "exists already: give --force" in result.output
    assert out.read_bytes() == b"precious"
    assert command(out, "q8_0", "--force", "--quiet").output == ""


def test_nan_in_a_gguf_file_is_found(source: Path, out: Path, tmp_path: Path) -> None:
    damaged = bytearray(source.read_bytes())
    damaged[-2:] = b"\xff\x7f"  # BF16 NaN at the end of the last tensor
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(damaged)
    result = CliRunner().invoke(quantize_cli.main, [str(bad), str(out), "q8_0"])
    assert f"{bad}: tensor output.weight: element [511, 255] is nan" in refused(result, out)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("500M", 500_000_000), ("4G", 4_000_000_000), ("4GB", 4_000_000_000), ("1.5GiB", 3 * 2**29), ("123", 123)],
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes
