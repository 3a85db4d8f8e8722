"""Slots in files: what one server saves, another one restores, and computes nothing of it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.serving import LONG, LONG_CONTEXT, Served, error_of, loader, served, until

from pytrimode.server.settings import ServerSettings

PROMPT = "Sort these numbers: " + ", ".join(str(n) for n in range(40))
BODY: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 8, "mode": "ar", "ignore_eos": True}


def change(server: Served, action: str, name: str | None = None, slot: int = 0) -> Any:
    return server.post(f"/slots/{slot}?action={action}", {} if name is None else {"filename": name})


def cached(server: Served, prompt: str) -> tuple[int, str]:
    answer = server.post("/v1/completions", {**BODY, "prompt": prompt}).json()
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["choices"][0]["text"]


def test_what_is_saved_is_found_again_elsewhere(q8_gguf: Path, tmp_path: Path) -> None:
    with served(loader(q8_gguf, 512), slot_save_path=tmp_path) as first:
        _, text = cached(first, PROMPT)
        _, longer = cached(first, PROMPT + text)
        saved = change(first, "save", "a b-1.bin").json()
        assert saved["id_slot"] == 0 and saved["filename"] == "a b-1.bin" and saved["timings"]["save_ms"] > 0
        assert saved["n_saved"] > 80 and saved["n_written"] == (tmp_path / "a b-1.bin").stat().st_size
        assert [file.name for file in tmp_path.iterdir()] == ["a b-1.bin"]
    with served(loader(q8_gguf, 512), slot_save_path=tmp_path) as second:
        restored = change(second, "restore", "a b-1.bin").json()
        assert restored["n_restored"] == saved["n_saved"] and restored["n_read"] == saved["n_written"]
        n_cached, found = cached(second, PROMPT + text)
        assert found == longer and n_cached > 80
        assert change(second, "save", "again.bin").json()["n_saved"] >= saved["n_saved"]
        erased = change(second, "erase").json()
        assert erased["id_slot"] == 0 and erased["n_erased"] > 80
        assert cached(second, PROMPT + text) == (0, longer)
        assert change(second, "erase").json()["n_erased"] > 80 and change(second, "erase").json()["n_erased"] == 0


def test_a_slot_of_several(q8_gguf: Path, tmp_path: Path) -> None:
    with served(loader(q8_gguf, 512, n_parallel=2), slot_save_path=tmp_path) as server:
        cached(server, PROMPT)
        assert change(server, "save", "x", slot=1).json()["n_saved"] == 0, "nothing was there"
        assert change(server, "save", "x", slot=0).json()["n_saved"] > 80, "an older file of that name is replaced"
        assert change(server, "restore", "x", slot=1).json()["n_restored"] > 80


def test_what_cannot_be_is_refused(q8_gguf: Path, q4_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with served(loader(q4_gguf, 512), slot_save_path=tmp_path) as other:
        cached(other, PROMPT)
        assert change(other, "save", "q4").json()["n_saved"] > 80
    with served(loader(q8_gguf, 512), slot_save_path=tmp_path) as server:
        cached(server, PROMPT)
        for action, name, message in (
            ("save", None, "filename is missing"),
            ("save", "../x", "filename must be letters"),
            ("save", "/tmp/x", "filename must be letters"),
            ("save", ".hidden", "filename must be letters"),
            ("save", "a/b", "filename must be letters"),
            ("save", "a\0b", "filename must be letters"),
            ("save", "x" * 200, "filename must be letters"),
            ("save", "notes.txt", "exists and is not a saved conversation"),
            ("restore", "nothing", "there is no file nothing"),
            ("restore", "notes.txt", "notes.txt"),
            ("restore", "q4", "other weights"),
            ("rename", "x", "action must be 'save', 'restore' or 'erase'"),
        ):
            error = error_of(change(server, action, name))
            assert error["code"] == 400 and message in error["message"] and str(tmp_path) not in error["message"]
        assert (tmp_path / "notes.txt").read_text() == "mine"
        assert "no slot 1" in error_of(change(server, "save", "x", slot=1))["message"]
        assert "no slot -1" in error_of(change(server, "save", "x", slot=-1))["message"]
        assert error_of(server.post("/slots/x?action=save", {}))["message"] == "id_slot must be a whole number"
        (tmp_path / "folder").mkdir()
        assert change(server, "save", "folder").status_code in (400, 500)


def test_a_busy_slot_and_a_server_without_a_folder(server: Served, q8_gguf: Path, tmp_path: Path) -> None:
    assert error_of(change(server, "save", "x"))["code"] == 501
    with served(loader(q8_gguf, LONG_CONTEXT), slot_save_path=tmp_path) as busy:
        with busy.client.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as answer:
            lines = answer.iter_lines()  # one that goes ends the request
            next(lines)
            assert error_of(change(busy, "save", "x"))["code"] == 503
        until(lambda: not busy.get("/slots").json()[0]["is_processing"])
        assert change(busy, "save", "x").json()["n_saved"] > 0


def test_settings_that_make_no_server(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder"):
        ServerSettings(slot_save_path=tmp_path / "none")
    with pytest.raises(ValueError, match="cache_scope shared"):
        ServerSettings(slot_save_path=tmp_path, api_keys=("a",))
    ServerSettings(slot_save_path=tmp_path, api_keys=("a",), cache_scope="shared")
