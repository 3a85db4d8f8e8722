"""`POST /v1/decide`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.serving import LONG, Served, error_of, loader, served, until

from pytrimode import TriMode

MESSAGES = [{"role": "user", "content": "Sort these numbers: 52, 31, 97"}]
CHOICES = ["31, 52, 97", "52, 31, 97", "I do not know"]


def test_it_answers_as_the_method_does(server: Served, model: TriMode) -> None:
    for body in ({"messages": MESSAGES}, {"prompt": "The answer is"}, {"prompt": [5, 6, 7]}):
        for more in ({}, {"masks": 0}, {"masks": 1}):
            response = server.post("/v1/decide", {**body, **more, "choices": CHOICES})
            assert response.status_code == 200, response.text
            decision = response.json()
            asked: Any = body.get("messages") or body["prompt"]
            expected = model.decide(asked, CHOICES, masks=more.get("masks"))
            for name in ("object", "best", "choices", "usage"):
                assert decision[name] == expected[name]
    assert decision["model"] == server.host.ready.name


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"prompt": "x"}, "choices", "choices is missing"),
        ({"prompt": "x", "choices": []}, "choices", "at least 1 items"),
        ({"prompt": "x", "choices": ["a"] * 101}, "choices", "at most 100 items"),
        ({"prompt": "x", "choices": ["a", ""]}, "choices", "at least 1 characters"),
        ({"prompt": "x", "choices": ["a", "a"]}, "choices", "choices has 'a' 2 times"),
        ({"prompt": "x", "choices": "a"}, "choices", "must be a list"),
        ({"prompt": "x", "choices": ["no " * 300]}, "choices", "tokens: at most 128"),
        ({"prompt": "x", "choices": ["a"], "masks": 129}, "masks", "128 or less"),
        ({"choices": ["a"]}, "messages", "messages or prompt"),
        ({"prompt": "x", "messages": MESSAGES, "choices": ["a"]}, "messages", "messages or prompt"),
        ({"messages": [], "choices": ["a"]}, "messages", "at least 1 items"),
        ({"messages": MESSAGES, "choices": ["a"], "chat_template_kwargs": {"messages": 1}}, "chat_template_kwargs", ""),
        ({"prompt": "x", "choices": ["a"], "chat_template_kwargs": {"y": 1}}, "chat_template_kwargs", "no template"),
        ({"prompt": [10**6], "choices": ["a"]}, "prompt", "vocabulary"),
        ({"prompt": [], "choices": ["a"]}, None, "no tokens"),
        ({"prompt": "word " * 3000, "choices": ["a"]}, None, "context"),
        ({"prompt": "word " * 1015, "choices": ["no " * 100]}, None, "context"),
    ],
)
def test_what_is_wrong_is_named(server: Served, body: dict[str, Any], param: str | None, message: str) -> None:
    response = server.post("/v1/decide", body)
    assert response.status_code == 400
    error = error_of(response)
    assert message in error["message"]
    assert param is None or error["param"] == param


def test_a_full_cache_is_for_later_and_the_request_beside_it_goes_on(q8_gguf: Path) -> None:
    with (
        served(loader(q8_gguf, 512, n_parallel=1)) as small,
        small.client.stream("POST", "/v1/completions", json={**LONG, "max_tokens": 450, "stream": True}) as running,
    ):
        lines = running.iter_lines()
        next(lines)
        until(lambda: small.host.desk.processing == 1)
        assert small.post("/v1/decide", {"prompt": "Hello", "choices": ["a", "b"]}).status_code in (200, 503)
        assert sum(1 for _ in lines) > 10


def test_the_schema_has_it(server: Served) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    answer = paths["/v1/decide"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Decision"}
