"""The real `openai` client against the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from support.serving import LONG, LONG_CONTEXT, PATIENCE, Served, loader, served

from pytrimode import TriMode

openai = pytest.importorskip("openai")

MESSAGES: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=PATIENCE) as made:
        yield made


def expected(model: TriMode, **options: Any) -> str:
    result: Any = model.create_chat_completion(MESSAGES, **{"temperature": 0.0} | options)
    return str(result["choices"][0]["message"]["content"])


def test_chat(client: Any, model: TriMode) -> None:
    result = client.chat.completions.create(model="any", messages=MESSAGES, max_tokens=12, extra_body={"mode": "ar"})
    assert result.choices[0].message.content == expected(model, max_tokens=12, mode="ar")
    assert result.choices[0].message.role == "assistant" and result.choices[0].finish_reason == "length"
    assert result.usage.total_tokens == result.usage.prompt_tokens + 12
    assert result.timings["tokens_per_forward"] > 0 and result._request_id


def test_streamed_chat(client: Any, model: TriMode) -> None:
    options: Any = {"stream": True, "stream_options": {"include_usage": True}, "max_completion_tokens": 12}
    chunks = list(client.chat.completions.create(model="any", messages=MESSAGES, **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == expected(model, max_tokens=12)
    assert chunks[-1].usage.completion_tokens == 12


def test_completions_and_models(client: Any, model: TriMode) -> None:
    result: Any = model.create_completion("Hello", max_tokens=8, temperature=0.0)
    assert (
        client.completions.create(model="any", prompt="Hello", max_tokens=8).choices[0].text
        == (result["choices"][0]["text"])
    )
    assert [listed.id for listed in client.models.list()] == ["tiny-q8_0"]


class Verdict(BaseModel):
    """What the model must fill in."""

    answer: Literal["yes", "no"]
    sure: bool


def test_structured_output(client: Any) -> None:
    result = client.chat.completions.parse(model="any", messages=MESSAGES, response_format=Verdict, max_tokens=100)
    assert isinstance(result.choices[0].message.parsed, Verdict)
    json_object: Any = {"type": "json_object"}
    result = client.chat.completions.create(
        model="any", messages=MESSAGES, response_format=json_object, max_tokens=200, logit_bias={}
    )
    if result.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(result.choices[0].message.content), dict)


def test_errors_are_the_clients_exceptions(client: Any, q8_gguf: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="unknown mode 'quick'") as caught:
        client.chat.completions.create(model="any", messages=MESSAGES, extra_body={"mode": "quick"})
    assert caught.value.type == "invalid_request_error" and caught.value.request_id
    with pytest.raises(openai.BadRequestError, match="top_logprobs needs logprobs") as caught:
        client.chat.completions.create(model="any", messages=MESSAGES, top_logprobs=1)
    assert caught.value.param == "top_logprobs"
    with pytest.raises(openai.InternalServerError, match="makes no embeddings"):
        client.embeddings.create(model="any", input="x")
    with served(loader(q8_gguf, LONG_CONTEXT, max_queue=0), api_keys=("right",)) as guarded:
        options: Any = {"base_url": guarded.url + "/v1", "max_retries": 0}
        with openai.OpenAI(api_key="wrong", **options) as wrong, pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        with openai.OpenAI(api_key="right", **options) as right:
            own = {"mode": LONG["mode"], "ignore_eos": True}
            with right.completions.create(
                model="any", prompt="x", max_tokens=-1, stream=True, extra_body=own
            ) as stream:
                next(iter(stream))
                with pytest.raises(openai.RateLimitError, match="queue is full"):
                    right.completions.create(model="any", prompt="x")
                guarded.stop()
                with pytest.raises(openai.APIError, match="the server is stopping"):
                    list(stream)


def test_async_clients_side_by_side(server: Served, model: TriMode) -> None:
    async def ask(client: Any, i: int) -> str:
        messages: Any = [{"role": "user", "content": f"Sort these numbers: {i}, 3, 9"}]
        if i % 2:
            result = await client.chat.completions.create(model="any", messages=messages, max_tokens=12)
            return str(result.choices[0].message.content)
        stream = await client.chat.completions.create(model="any", messages=messages, max_tokens=12, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, i) for i in range(6)))

    for i, text in enumerate(asyncio.run(ask_all())):
        messages = [{"role": "user", "content": f"Sort these numbers: {i}, 3, 9"}]
        result: Any = model.create_chat_completion(messages, max_tokens=12, temperature=0.0)
        assert text == result["choices"][0]["message"]["content"]
