"""Names of files and of models: GGUF's convention, what lies beside a model, the hub's cache, the `general.` keys."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import pytest
from click.testing import CliRunner
from support.convert_helpers import files_in, read_metadata
from support.synthetic import edit_json, make_checkpoint
from support.vlm import make_vlm

from pytrimode import TriMode
from pytrimode.convert import ConversionError, convert
from pytrimode.convert.cli import main
from pytrimode.files.file_info import file_info
from pytrimode.gguf.file_names import encoding_of, lora_beside, mmproj_beside, part_of, without_encoding
from pytrimode.quantize import quantize

NAME = "Small-Diffusion-8B"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("hub") / NAME, hidden=256, ffn=256, lora_rank=2)


def in_hub_cache(checkpoint: Path, cache: Path, repo: str) -> Path:
    """Lay a checkpoint out as huggingface_hub does; returns the model's directory."""
    home = cache / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / ("a" * 40)
    (home / "blobs").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("a" * 40)
    for number, file in enumerate(path for path in sorted(checkpoint.rglob("*")) if path.is_file()):
        blob = home / "blobs" / f"{number:040}"
        shutil.copy(file, blob)
        link = snapshot / file.relative_to(checkpoint)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return home


@pytest.mark.parametrize(
    ("name", "encoding", "base"),
    [
        ("Model-8B-Q4_K_M.gguf", "q4_k_m", "Model-8B"),
        ("Model-8B-BF16-00001-of-00003.gguf", "bf16", "Model-8B"),
        ("model.IQ2_XXS.gguf", "iq2_xxs", "model"),
        ("model-8B-q8_0.gguf", "q8_0", "model-8B"),
        ("Model-8B-UD-Q4_K_XL.gguf", "ud-q4_k_xl", "Model-8B"),
        ("Model-8B.gguf", None, "Model-8B"),
        ("Q8_0.gguf", None, "Q8_0"),
    ],
)
def test_the_type_in_a_name(name: str, encoding: str | None, base: str) -> None:
    assert (encoding_of(name), without_encoding(name)) == (encoding, base)
    assert (part_of(name) is not None) == ("-of-" in name)


def test_without_a_name_files_are_called_by_the_convention(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    for flag in ("--q8_0", "--q4_0"):
        done = runner.invoke(main, [str(model), flag, "-t", "1"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    adapter = f"{NAME}-Drafter-F32-LoRA.gguf"
    assert files_in(tmp_path) == {f"{NAME}-Q8_0.gguf", f"{NAME}-Q4_0.gguf", adapter}
    assert lora_beside(tmp_path / f"{NAME}-Q4_0.gguf").name == adapter
    with TriMode(tmp_path / f"{NAME}-Q4_0.gguf", n_ctx=64, n_threads=1) as loaded:
        assert Path(str(loaded.lora_path)).name == adapter
    assert file_info(tmp_path / f"{NAME}-Q8_0.gguf")["drafter_lora"]["rank"] == 2
    again = runner.invoke(main, [str(model), "--q8_0"])
    assert again.exit_code == 1 and f"{NAME}-Q8_0.gguf: exists already" in again.output


def test_a_directory_gets_the_same_names(model: Path, tmp_path: Path) -> None:
    assert convert(model, tmp_path, "q8_0").path == tmp_path / f"{NAME}-Q8_0.gguf"


def test_a_shared_drafter_of_another_checkpoint_is_not_replaced(model: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other" / NAME, hidden=256, ffn=256, lora_rank=2, seed=5)
    convert(other, tmp_path, "q8_0")
    lora = tmp_path / f"{NAME}-Drafter-F32-LoRA.gguf"
    before = lora.read_bytes()
    with pytest.raises(ConversionError, match=r"Drafter-F32-LoRA.gguf: exists already and is of another checkpoint"):
        convert(model, tmp_path, "q4_0")
    assert lora.read_bytes() == before and not (tmp_path / f"{NAME}-Q4_0.gguf").exists()
    convert(model, tmp_path, "q4_0", force=True)
    assert lora.read_bytes() != before


def test_quantizing_leaves_a_shared_drafter_where_it_is(model: Path, tmp_path: Path) -> None:
    source = convert(model, tmp_path, "bf16").path
    quantize(source, tmp_path / f"{NAME}-Q8_0.gguf", "q8_0")
    assert files_in(tmp_path) == {f"{NAME}-BF16.gguf", f"{NAME}-Q8_0.gguf", f"{NAME}-Drafter-F32-LoRA.gguf"}
    quantize(source, tmp_path / "other.gguf", "q8_0")
    assert (tmp_path / "other-drafter-lora.gguf").read_bytes() == lora_beside(source).read_bytes()


def test_the_vision_tower_is_called_as_other_programs_look_for_it(tmp_path: Path) -> None:
    checkpoint = make_vlm(tmp_path / "Small-VLM-8B")
    result = convert(checkpoint, tmp_path, "f16")
    assert result.mmproj_path == tmp_path / "mmproj-Small-VLM-8B-F16.gguf" == mmproj_beside(result.path)


# --- The hub's cache --------------------------------------------------------------------------------------------------


def test_a_checkpoint_in_the_hub_cache_converts_and_is_named_by_its_repository(model: Path, tmp_path: Path) -> None:
    home = in_hub_cache(model, tmp_path / "hub", f"me/{NAME}")
    for directory in (home, home / "snapshots" / ("a" * 40)):
        result = convert(directory, tmp_path, "q8_0", force=True)
        assert result.path.name == f"{NAME}-Q8_0.gguf" and result.lora_path is not None
        fields = read_metadata(result.path)
        assert fields["trimode.source_model"] == f"me/{NAME}" and fields["general.organization"] == "me"
        assert fields["general.source.url"] == f"https://huggingface.co/me/{NAME}"
    check = CliRunner().invoke(main, ["--check", str(result.path), str(home)])
    assert check.exit_code == 0, check.output


def test_a_gguf_in_the_hub_cache_loads_with_what_lies_beside_it(model: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    convert(model, files, "q8_0")
    home = in_hub_cache(files, tmp_path / "hub", "me/Small-GGUF")
    with TriMode(home / "snapshots" / ("a" * 40) / f"{NAME}-Q8_0.gguf", n_ctx=64, n_threads=1) as loaded:
        assert loaded.has_lora


# --- The general keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "base", "finetune"),
    [("Small-Diffusion-8B", "Small-Diffusion", None), ("Small-3B-Base", "Small", "Base"), ("tiny", "tiny", None)],
)
def test_base_name_and_finetune(name: str, base: str, finetune: str | None, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / name)
    fields = read_metadata(convert(checkpoint, tmp_path / "out.gguf", "f16").path)
    assert fields["general.basename"] == base and fields.get("general.finetune") == finetune
    assert "general.organization" not in fields and "general.base_model.count" not in fields


@pytest.mark.parametrize(
    "card",
    [
        "base_model: me/first-8B\n",
        "base_model:\n- me/first-8B\n",
        'license: mit\nbase_model:\n  - "me/first-8B"\n  - you/second\ntags:\n- x/y\n',
        "base_model: [me/first-8B, 'you/second']\n",
        "base_model: no name\n",
    ],
)
def test_base_models_come_from_the_card(card: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    (checkpoint / "README.md").write_text(f"---\n{card}---\n# Model\n")
    fields = read_metadata(convert(checkpoint, tmp_path / "out.gguf", "f16").path)
    expected = [repo for repo in ("me/first-8B", "you/second") if repo in card]
    assert fields.get("general.base_model.count", 0) == len(expected)
    for i, repo in enumerate(expected):
        owner, name = repo.split("/")
        keys = gguf.Keys.General
        assert fields[keys.BASE_MODEL_NAME.format(id=i)] == name
        assert fields[keys.BASE_MODEL_ORGANIZATION.format(id=i)] == owner
        assert fields[keys.BASE_MODEL_REPO_URL.format(id=i)] == f"https://huggingface.co/{repo}"


def test_a_config_names_its_repository(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    edit_json(checkpoint / "config.json", _name_or_path="nvidia/Nemotron-Labs-Diffusion-8B")
    fields = read_metadata(convert(checkpoint, tmp_path / "out.gguf", "f16").path)
    assert fields["general.organization"] == "nvidia" and fields["general.basename"] == "Nemotron-Labs-Diffusion"
