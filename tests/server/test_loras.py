"""LoRA adapters over HTTP: /lora-adapters and the field `lora`, as llama-server has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.loras import write_peft
from support.serving import Served, error_of, served

from pytrimode import TriMode
from pytrimode.convert import convert_lora

BODY = {"prompt": "Sort these numbers: 5, 3, 9", "max_tokens": 12}


@pytest.fixture(scope="module")
def server(q8_gguf: Path, checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served-loras")
    loras = [
        convert_lora(
            write_peft(directory / f"p{i}", checkpoint_dir, strength=0.6, seed=i), directory / f"{i}.gguf"
        ).path
        for i in range(2)
    ]
    with served(lambda: TriMode(q8_gguf, n_ctx=1024, n_threads=1, loras=[loras[0], (loras[1], 0)])) as running:
        yield running


def text(server: Served, **fields: Any) -> str:
    answer = server.post("/v1/completions", BODY | fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_adapters_are_listed_and_set(server: Served) -> None:
    listed = server.get("/lora-adapters").json()
    assert [(one["id"], Path(one["path"]).name, one["scale"]) for one in listed] == [(0, "0.gguf", 1), (1, "1.gguf", 0)]
    first, second = [{"id": 0, "scale": 1.0}], [{"id": 1, "scale": 1.0}]
    texts = {name: text(server, lora=lora) for name, lora in (("none", []), ("first", first), ("second", second))}
    assert len(set(texts.values())) == 3 and text(server) == texts["first"]
    assert server.post("/lora-adapters", second).json() == {"success": True}
    assert [one["scale"] for one in server.get("/lora-adapters").json()] == [0, 1]
    assert text(server) == texts["second"] and text(server, lora=first) == texts["first"]
    assert server.post("/lora-adapters", []).status_code == 200
    assert text(server) == texts["none"]
    chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12}
    answers = [server.post("/v1/chat/completions", chat | {"lora": lora}).json() for lora in ([], first)]
    assert answers[0]["choices"] != answers[1]["choices"]


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ([{"id": 5, "scale": 1}], "there is no adapter 5; there are 0 to 1"),
        ([{"id": 0}], "scale"),
        ([{"id": "x", "scale": 1}], "whole number"),
        ([{"id": 0, "scale": 1, "path": "x"}], "path"),
        ("x", "must be a list"),
    ],
)
def test_what_is_wrong_is_named(server: Served, lora: Any, message: str) -> None:
    error = error_of(server.post("/v1/completions", BODY | {"lora": lora}))
    assert error["code"] == 400 and error["param"] == "lora" and message in error["message"]
    if isinstance(lora, list):
        assert message in error_of(server.post("/lora-adapters", lora))["message"]
