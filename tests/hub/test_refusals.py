"""What goes wrong with the hub: one sentence each, that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
from support.hub_server import TOKEN, Hub, HubRepo
from support.synthetic import edit_json, make_checkpoint

from pytrimode.convert import ConversionError
from pytrimode.hub.errors import HubError
from pytrimode.hub.pretrained import local_model, pretrained, stored_model
from pytrimode.hub.store import stored

NAME = "me/Small-Diffusion-8B"


def refusal(model: str) -> str:
    with pytest.raises(HubError) as error:
        local_model(model, notice=print)
    assert "\n" not in str(error.value)
    return str(error.value)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytrimode in a process of its own, in the caches of the test."""
    command = [sys.executable, "-m", "pytrimode", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )


def test_an_unknown_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        message = refusal("me/nothing")
        assert (
            message.startswith("me/nothing: neither a file here nor a repository on the hub") and "HF_TOKEN" in message
        )
        monkeypatch.setenv("HF_TOKEN", TOKEN)  # the hub says 404 then, 401 before


def test_a_private_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos[NAME].private = True
    assert "if it is private, log in" in refusal(NAME)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert local_model(NAME, notice=print).is_file()


def test_a_gated_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos[NAME].gated = True
    message = refusal(NAME)
    assert message.startswith(f"{NAME} is gated: accept its terms at ") and f"/{NAME} and log in" in message
    assert hub.downloads() == [] and stored() == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert local_model(NAME, notice=print).is_file()


@pytest.mark.parametrize(
    ("status", "said"),
    [(403, "the hub refuses (HTTP 403): log in with a token"), (429, "too many requests"), (418, "HTTP 418")],
)
def test_answers_of_the_hub(hub: Hub, status: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.status = status
    assert said in refusal(NAME)


def test_no_connection(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    message = refusal(NAME)
    assert f"{NAME} is not here, and " in message and "cannot be reached" in message


def test_without_a_connection_a_checkpoint_in_the_hubs_cache_is_converted(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = local_model(NAME, notice=print)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    told: list[str] = []
    again = local_model(NAME, notice=told.append)
    assert again.name == first.name and told[0].startswith(f"{NAME}: taken from the hub's cache (")


def test_offline(hub: Hub) -> None:
    done = run("chat", NAME, "-p", "Hi", HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"error: {NAME} is not here, and HF_HUB_OFFLINE forbids to download it: unset it\n"
    assert hub.requests == []


def test_without_the_extra(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"need huggingface_hub: pip install 'pytrimode\[hub\]'"):
        pretrained(NAME)


def test_a_model_that_is_here_needs_no_extra(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pretrained(NAME)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert pretrained(NAME) == path


def test_a_disk_without_room_is_noticed_before_the_download(hub: Hub) -> None:
    hub.repos[NAME].sizes["model.safetensors"] = 10**15
    message = refusal(NAME)
    assert "1000000.00 GB are needed" in message and "HF_HOME" in message and "PYTRIMODE_CACHE" in message
    assert "model.safetensors" not in hub.downloads() and stored() == []


def test_a_disk_that_fills_up(
    hub: Hub, small_disk: Path, small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME].sizes["model.safetensors"] = 10  # the truth is noticed before
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(small_disk / "hub"))
    message = refusal(NAME)
    assert message.startswith(f"{NAME}: the disk is full: make room, or set HF_HOME")
    assert not list(small_disk.glob("hub/*/blobs/*.incomplete")) and stored() == []


def test_another_kind_of_model_is_refused_before_its_weights_are_downloaded(hub: Hub, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other")
    edit_json(other / "config.json", model_type="llama")
    hub.repos["me/llama"] = HubRepo(other)
    message = refusal("me/llama")
    assert message.startswith("me/llama: ") and "found 'llama': not a tri-mode model" in message
    assert hub.downloads() == ["config.json"]


def test_a_repository_without_a_model(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("# Nothing")
    hub.repos["me/empty"] = HubRepo(tmp_path / "empty")
    assert refusal("me/empty") == "me/empty: it holds neither GGUF files nor a checkpoint of safetensors"


def test_a_type_that_there_is_not(hub: Hub) -> None:
    with pytest.raises(ValueError, match=r"type 'q9_0': expected one of q8_0"):
        local_model(f"{NAME}:q9_0", notice=print)
    assert "model.safetensors" not in hub.downloads()


def test_a_type_that_needs_an_importance_matrix(hub: Hub) -> None:
    with pytest.raises(ConversionError, match=r"iq2_xxs needs an importance matrix"):
        local_model(f"{NAME}:iq2_xxs", notice=print)


def test_what_is_not_here_can_be_pulled(hub: Hub) -> None:
    with pytest.raises(FileNotFoundError, match=f"not downloaded: pytrimode models pull {NAME}"):
        stored_model(NAME)


def test_directories_that_may_not_be_written(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PYTRIMODE_CACHE", str(tmp_path / "file"))
    with pytest.raises((HubError, OSError)) as error:
        local_model(NAME, notice=print)
    assert str(tmp_path / "file") in str(error.value)
