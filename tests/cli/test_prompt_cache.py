"""`generate --prompt-cache`: a prompt's keys and values between two runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pytrimode.cli import run
from pytrimode.files.conversation_file import read_conversation

PROMPT = "Sort these numbers: " + ", ".join(map(str, range(40, 0, -1)))
Generate = Callable[..., dict]


@pytest.fixture
def generate(q8_gguf: Path, capsys: pytest.CaptureFixture[str]) -> Generate:
    """The result of a run, with what was said on stderr."""

    def call(prompt: str, *arguments: object, gguf: Path = q8_gguf) -> dict:
        given = ["generate", gguf, "-p", prompt, "-t", 1, "-c", 512, "-n", 8, "--ignore-eos", "--temp", 0, "--json"]
        assert run([str(part) for part in [*given, *arguments]]) == 0
        said = capsys.readouterr()
        return json.loads(said.out) | {"said": said.err}

    return call


def cached(result: dict) -> int:
    return result["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_a_prompt_is_computed_once(generate: Generate, tmp_path: Path) -> None:
    file = tmp_path / "prompt"
    plain = generate(PROMPT)
    first = generate(PROMPT, "--prompt-cache", file)
    again = generate(PROMPT, "--prompt-cache", file)
    n = plain["usage"]["prompt_tokens"]
    assert cached(plain) == cached(first) == 0 and cached(again) >= n - 1
    assert plain["choices"] == first["choices"] == again["choices"]
    longer = generate(f"{PROMPT}, and more", "--prompt-cache", file, "--prompt-cache-ro")
    assert n - 2 <= cached(longer) <= n
    before = file.read_bytes()
    generate("Something else", "--prompt-cache", file, "--prompt-cache-ro")
    assert file.read_bytes() == before
    assert len(read_conversation(file).cache.tokens) == n
    generate(PROMPT, "--prompt-cache", file, "--prompt-cache-all")
    assert len(read_conversation(file).cache.tokens) >= n + 7, "the completion is in it"


def test_a_file_that_is_not_for_it_is_named(
    generate: Generate, q8_gguf: Path, random_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompt"
    generate(PROMPT, "--prompt-cache", file)
    other = generate(PROMPT, "--prompt-cache", file, "--prompt-cache-ro", gguf=random_gguf)
    assert "is not used: " in other["said"] and "another model" in other["said"] and cached(other) == 0
    types = generate(PROMPT, "--prompt-cache", file, "--prompt-cache-ro", "-ct", "q8_0")
    assert "is not used: " in types["said"] and cached(types) == 0
    notes = tmp_path / "notes"
    notes.write_text("mine")
    options = ["generate", str(q8_gguf), "-p", "x", "-n", "1", "--prompt-cache"]
    assert run([*options, str(notes)]) == 1 and notes.read_text() == "mine"
    assert "not a saved conversation" in capsys.readouterr().err
    assert run([*options[:-1], "--prompt-cache-ro"]) == 2
