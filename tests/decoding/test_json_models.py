"""Pydantic models of all shapes, answered in every mode. The quick version of benchmarks/schema_conformance.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.json_models import MAX_TOKENS, fault, models

from pytrimode import TriMode

pytestmark = pytest.mark.slow

N = 12
QUESTION = [{"role": "user", "content": "Hello"}]
MODES: dict[str, dict[str, Any]] = {
    "ar": {"mode": "ar"},
    "self-spec": {"mode": "self-spec", "block_length": 8},
    "fused": {"mode": "self-spec", "block_length": 8, "fused": True},
    "diffusion": {"mode": "diffusion", "block_length": 8, "threshold": 0.5},
}


@pytest.fixture(scope="module")
def random_model(random_gguf: Path) -> Iterator[TriMode]:
    with TriMode(random_gguf, n_ctx=1024, n_threads=1) as model:
        yield model


def answers(model: TriMode, n: int = N, **options: Any) -> list[str]:
    """One to each pydantic model; what is wrong with one fails here."""
    found = []
    for i, schema in enumerate(models(7, n)):
        wanted = {"type": "json_schema", "json_schema": {"schema": schema.model_json_schema()}}
        result: Any = model.create_chat_completion(
            QUESTION, response_format=wanted, max_tokens=MAX_TOKENS, seed=i, **options
        )
        choice = result["choices"][0]
        found.append(choice["message"]["content"])
        if choice["finish_reason"] == "stop" and "loop" not in str(choice.get("finish_details")):
            assert fault(schema, found[-1]) is None
        else:
            assert choice["finish_reason"] in ("stop", "length")
    return found


@pytest.mark.parametrize("mode", MODES)
def test_every_answer_is_of_its_model(model: TriMode, random_model: TriMode, mode: str) -> None:
    for one, temperature in ((model, 0.0), (random_model, 0.8)):
        assert any(text.endswith("}") for text in answers(one, temperature=temperature, **MODES[mode]))


@pytest.mark.parametrize("mode", ["self-spec", "fused"])
def test_drafts_change_nothing(model: TriMode, random_model: TriMode, mode: str) -> None:
    for one in (model, random_model):
        for options in ({"temperature": 0.0}, {"temperature": 1.0, "sampler": "coupled"}):
            assert answers(one, 3, **MODES["ar"], **options) == answers(one, 3, **MODES[mode], **options)


def test_diffusion_keeps_a_grammar_of_any_kind(model: TriMode) -> None:
    for steps in (None, 2):
        result: Any = model.create_completion(
            "Hello", mode="diffusion", grammar='root ::= ("ab" | "cd"){3} "."', steps=steps, temperature=0.8, seed=1
        )
        text = result["choices"][0]["text"]
        assert text.endswith(".") and len(text) == 7 and set(text) <= set("abcd.")
