"""A model by its name: downloaded, converted, found again without a connection."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
from support.convert_helpers import files_in, read_metadata
from support.hub_server import Hub, HubRepo
from support.synthetic import edit_json, make_checkpoint

from pytrimode import TriMode
from pytrimode.convert import convert
from pytrimode.files.file_info import file_info
from pytrimode.hub.choice import fitting_file, memory_here
from pytrimode.hub.errors import HubError
from pytrimode.hub.pretrained import local_model, planned_model, stored_model
from pytrimode.hub.reference import Reference, on_hub, reference_of
from pytrimode.hub.store import remove, stored
from pytrimode.plan import plan

NAME = "me/Small-Diffusion-8B"


def get(model: str, told: list[str] | None = None) -> Path:
    return local_model(model, notice=(told if told is not None else []).append)


# --- Names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("me/model", Reference("me/model")),
        ("me/model:Q4_K_M", Reference("me/model", "q4_k_m")),
        ("me/model:q4_k", Reference("me/model", "q4_k_m")),
        ("hf.co/me/model:q8_0", Reference("me/model", "q8_0")),
        ("https://huggingface.co/me/model/", Reference("me/model")),
        ("me/model.gguf", None),
        ("model", None),
        ("a/b/c", None),
        ("./me/model", None),
        ("/me/model", None),
        ("../model", None),
    ],
)
def test_what_is_a_name_on_the_hub(text: str, expected: Reference | None) -> None:
    assert reference_of(text) == expected


def test_a_path_that_is_here_goes_before_a_name_unless_the_hub_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "model").touch()
    assert reference_of("me/model") is None
    assert reference_of(on_hub("me/model")) == Reference("me/model")
    with pytest.raises(ValueError, match=r"a/b/c: expected OWNER/NAME or OWNER/NAME:TYPE"):
        reference_of(on_hub("a/b/c"))


# --- A checkpoint ----------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_converted_once_and_then_found_without_a_connection(hub: Hub, small_checkpoint: Path) -> None:
    told: list[str] = []
    path = get(NAME, told)
    assert path.name == "Small-Diffusion-8B-Q8_0.gguf" and "then converting to q8_0, which fits into" in told[0]
    assert files_in(path.parent) == {path.name, "Small-Diffusion-8B-Drafter-F32-LoRA.gguf", "checkpoint"}
    fields = read_metadata(path)
    assert fields["trimode.source_model"] == NAME and fields["general.organization"] == "me"
    with TriMode(path, n_ctx=64, n_threads=1) as model:
        assert model.has_lora
    hub.requests.clear()
    assert get(NAME) == path == get(f"{NAME}:q8_0") == stored_model(NAME)
    assert hub.requests == []


def test_another_type_is_converted_from_the_same_download(hub: Hub) -> None:
    first = get(f"{NAME}:q8_0")
    hub.requests.clear()
    second = get(f"{NAME}:q4_0")
    assert second.name == "Small-Diffusion-8B-Q4_0.gguf" and second.parent == first.parent
    assert hub.downloads() == []
    assert get(NAME) == second, "the one used last"


def test_only_what_the_converter_reads_is_downloaded(hub: Hub, small_checkpoint: Path, tmp_path: Path) -> None:
    directory = tmp_path / "repo"
    shutil.copytree(small_checkpoint, directory)
    for name in ("modeling_x.py", "pytorch_model.bin", "consolidated.safetensors", "images/cat.png", "eval/a.json"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(b"x")
    (directory / "model-00001-of-00001.safetensors").write_bytes(b"stale")
    hub.repos[NAME] = HubRepo(directory)
    get(NAME)
    assert set(hub.downloads()) == {str(f.relative_to(small_checkpoint)) for f in small_checkpoint.rglob("*.*")}


def test_shards_are_downloaded_and_a_new_commit_is_fetched_when_asked_for(hub: Hub, tmp_path: Path) -> None:
    from pytrimode.hub.fetch import fetch

    sharded = make_checkpoint(tmp_path / "sharded", hidden=256, ffn=256, shards=2)
    hub.repos[NAME] = HubRepo(sharded)
    old = get(NAME)
    edit_json(sharded / "config.json", block_size=8)
    assert get(NAME) == old
    new = fetch(Reference(NAME), notice=print, progress=False, renew=True)
    assert new != old and file_info(new)["modes"]["block_length"]["diffusion"] == 8
    assert sum(name.endswith(".safetensors") for name in hub.downloads()) == 2, "weights that are the same are kept"


def test_a_connection_that_breaks_is_resumed(
    hub: Hub, small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)  # 10 MB are more than this file
    size = (small_checkpoint / "model.safetensors").stat().st_size
    hub.cut_after["model.safetensors"] = size // 2
    path = get(f"{NAME}:f16")
    ranges = [r for _, name, r in hub.requests if name.endswith("/model.safetensors") and r]
    assert len(ranges) == 1 and 0 < int(ranges[0].removeprefix("bytes=").rstrip("-")) <= size // 2
    expected = convert(small_checkpoint, tmp_path / "expected.gguf", "f16").path
    assert file_info(path)["n_tensors"] == file_info(expected)["n_tensors"]
    assert read_metadata(path)["trimode.source.sha256"] == read_metadata(expected)["trimode.source.sha256"]


def test_a_plan_downloads_the_config_alone(hub: Hub) -> None:
    found = plan(planned_model(NAME), vram="8GiB")
    assert found.model == "Small-Diffusion-8B" and found.lora > 0
    assert set(hub.downloads()) == {"config.json", "linear_spec_lora/adapter_config.json"}
    hub.requests.clear()
    assert planned_model("nvidia/Nemotron-Labs-Diffusion-8B") == "nvidia/Nemotron-Labs-Diffusion-8B"
    assert hub.requests == []


def test_from_pretrained(hub: Hub) -> None:
    with TriMode.from_pretrained(NAME, "Q4_0", n_ctx=64, n_threads=1) as model:
        assert model.has_lora and model.model_path.endswith("Small-Diffusion-8B-Q4_0.gguf")
    with pytest.raises(ValueError, match=r"no name: expected OWNER/NAME"):
        TriMode.from_pretrained("no name")


# --- GGUF files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ggufs(small_checkpoint: Path, tmp_path: Path, hub: Hub) -> Path:
    """A repository of GGUF files in three types, one of them in parts, with one drafter LoRA."""
    directory = tmp_path / "ggufs"
    directory.mkdir()
    for outtype in ("q8_0", "q4_0"):
        convert(small_checkpoint, directory / f"Small-8B-{outtype.upper()}.gguf", outtype, lora=False)
    convert(small_checkpoint, directory / "Small-8B-F16.gguf", "f16", lora=False, split_max_bytes=400_000)
    lora = convert(small_checkpoint, tmp_path / "other.gguf", "q4_0").lora_path
    assert lora is not None
    lora.rename(directory / "Small-8B-Drafter-F32-LoRA.gguf")
    (directory / "README.md").write_text("# Files\n")
    hub.repos["me/Small-GGUF"] = HubRepo(directory)
    return directory


def test_a_gguf_file_is_taken_with_its_drafter_and_kept_once(hub: Hub, ggufs: Path, tmp_path: Path) -> None:
    told: list[str] = []
    path = get("me/Small-GGUF", told)
    assert path.name == "Small-8B-Q8_0.gguf" and "downloading q8_0, which fits" in told[0]
    assert set(hub.downloads()) == {"Small-8B-Q8_0.gguf", "Small-8B-Drafter-F32-LoRA.gguf"}
    assert path.is_symlink() and path.read_bytes() == (ggufs / path.name).read_bytes()
    with TriMode(path, n_ctx=64, n_threads=1) as model:
        assert model.has_lora
    blobs = [file for file in tmp_path.glob("hf/hub/*/blobs/*") if file.stat().st_size == path.stat().st_size]
    assert len(blobs) == 1


def test_a_type_in_parts(hub: Hub, ggufs: Path) -> None:
    path = get("me/Small-GGUF:F16")
    assert path.name.startswith("Small-8B-F16-00001-of-")
    with TriMode(path, n_ctx=64, n_threads=1) as model:
        assert model.has_lora


def test_a_type_that_is_not_there_is_an_error_that_lists_the_others(hub: Hub, ggufs: Path) -> None:
    with pytest.raises(HubError, match=r"me/Small-GGUF: type 'q5_k_m': it has f16, q4_0, q8_0"):
        get("me/Small-GGUF:q5_k_m")


def test_with_a_checkpoint_beside_gguf_files_any_type_can_be_had(
    hub: Hub, ggufs: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_checkpoint, ggufs, dirs_exist_ok=True)
    assert get("me/Small-GGUF:q4_0").is_symlink()
    assert not get("me/Small-GGUF:q5_0").is_symlink()


def test_of_several_files_the_largest_that_fits_is_taken(tiny_gguf: Callable[[str], Path]) -> None:
    room = memory_here().n_bytes
    assert fitting_file({"f16": 100, "q8_0": 60, "q4_0": 30}).type == "q8_0"
    assert fitting_file({"q8_0": room, "q4_k_m": room // 4, "q2_k": 1}).type == "q4_k_m"
    assert fitting_file({"q8_0": 3 * room, "q4_k_m": 2 * room}).type == "q4_k_m"
    assert fitting_file({"f16": 100}).type == "f16"


# --- Removing --------------------------------------------------------------------------------------------------------


def test_removing_frees_the_disk(hub: Hub, tmp_path: Path) -> None:
    get(f"{NAME}:q8_0")
    get(f"{NAME}:q4_0")
    by_type = {one.type: one for one in stored()}
    assert set(by_type) == {"q8_0", "q4_0", "safetensors"} and all(one.repo == NAME for one in by_type.values())
    assert remove(by_type["q8_0"]) == by_type["q8_0"].n_bytes
    assert {one.type for one in stored()} == {"q4_0", "safetensors"}
    assert get(f"{NAME}:q4_0").is_file()
    remove(by_type["safetensors"])
    assert not list(tmp_path.glob("hf/hub/models--*"))
    with TriMode(get(f"{NAME}:q4_0"), n_ctx=64, n_threads=1) as model:
        assert model.has_lora
    remove(by_type["q4_0"])
    assert stored() == [] and not list((tmp_path / "cache" / "hub").iterdir())


def test_removing_one_downloaded_file_leaves_the_others(hub: Hub, ggufs: Path, tmp_path: Path) -> None:
    for kind in ("q8_0", "f16"):
        get(f"me/Small-GGUF:{kind}")
    by_type = {one.type: one for one in stored("me/Small-GGUF")}
    freed = remove(by_type["f16"])
    assert freed >= by_type["f16"].n_bytes
    with TriMode(get("me/Small-GGUF:q8_0"), n_ctx=64, n_threads=1) as model:
        assert model.has_lora
    remove(by_type["q8_0"])
    assert not list(tmp_path.glob("hf/hub/models--*")) and stored() == []


def test_a_link_to_what_others_removed_is_no_model(hub: Hub, ggufs: Path, tmp_path: Path) -> None:
    path = get("me/Small-GGUF:q8_0")
    shutil.rmtree(tmp_path / "hf")
    assert stored() == []
    assert get("me/Small-GGUF:q8_0") == path and path.is_file()
