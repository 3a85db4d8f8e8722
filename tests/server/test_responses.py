"""The real `openai` client against `/v1/responses`, and what is refused there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter
from support.serving import LONG_CONTEXT, PATIENCE, Served, error_of, loader, served

from pytrimode import TriMode

openai = pytest.importorskip("openai")

HELLO: Any = [{"role": "user", "content": "Hello"}]
OPENAI, RESPONSES = "/v1/chat/completions", "/v1/responses"
CITY: Any = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "name": "weather", "parameters": CITY, "strict": True}
TOLD = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


@pytest.fixture
def client(server: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=PATIENCE) as made:
        yield made


def answered(server: Served, **body: Any) -> dict[str, Any]:
    """What OpenAI's older route gives."""
    result: dict[str, Any] = server.post(OPENAI, {"messages": HELLO, **body}).json()
    return result


@pytest.mark.parametrize("mode", ["ar", "self-spec", "diffusion"])
def test_a_response_is_the_answer_that_chat_gives(client: Any, server: Served, mode: str) -> None:
    expected = answered(server, max_tokens=12, mode=mode)
    for form in ("Hello", HELLO, [{"type": "message", "role": "user", "content": [
        {"type": "input_text", "text": "Hello"}]}]):  # fmt: skip
        result = client.responses.create(model="any", input=form, max_output_tokens=12, extra_body={"mode": mode})
        assert result.output_text == expected["choices"][0]["message"]["content"]
    assert result.status == "incomplete" and result.incomplete_details.reason == "max_output_tokens"
    assert result.id.startswith("resp_") and result.model == "tiny-q8_0" and result.store is False
    assert result.usage.output_tokens == 12 and result.usage.total_tokens == expected["usage"]["total_tokens"]
    assert client.responses.create(model="any", input="Hello", max_output_tokens=500).status == "completed"


def test_a_stream_adds_up_to_the_response(client: Any, server: Served) -> None:
    options: Any = {"model": "any", "input": "Hello", "max_output_tokens": 500, "instructions": "Be kind."}
    whole = client.responses.create(**options)
    with client.responses.stream(**options) as stream:
        told = list(stream)
        final = stream.get_final_response()
    text = "".join(event.delta for event in told if event.type == "response.output_text.delta")
    assert text == whole.output_text == final.output_text and text
    assert final.status == whole.status and final.usage.output_tokens == whole.usage.output_tokens
    raw = list(client.responses.create(stream=True, **options))
    assert [event.sequence_number for event in raw] == list(range(len(raw)))
    kinds = [event.type for event in raw]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    ids = {event.item_id for event in raw if hasattr(event, "item_id")}
    assert ids == {raw[-1].response.output[0].id}
    cut = list(client.responses.create(stream=True, **options | {"max_output_tokens": 5}))
    assert cut[-1].type == "response.incomplete" and cut[-1].response.output[0].status == "incomplete"


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "name": "weather"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
    ],
)
def test_tools_make_a_round_trip(client: Any, server: Served, choice: Any) -> None:
    question: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    options: Any = {"model": "any", "max_output_tokens": 100, "tools": [WEATHER]}
    result = client.responses.create(input=question, tool_choice=choice, **options)
    (call,) = result.output
    assert call.type == "function_call" and call.name == "weather" and result.status == "completed"
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    with client.responses.stream(input=question, tool_choice=choice, **options) as stream:
        told = list(stream)
        final = stream.get_final_response()
    parts = [event.delta for event in told if event.type == "response.function_call_arguments.delta"]
    assert len(parts) > 2 and "".join(parts) == final.output[0].arguments == call.arguments

    history = [*question, call, {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    function = {"name": "weather", "arguments": call.arguments}
    ours = [
        *question,
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": call.call_id, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": call.call_id, "content": "rain"},
    ]  # fmt: skip
    expected = answered(server, messages=ours, tools=[TOLD], max_tokens=8)
    after = client.responses.create(input=history, **options | {"max_output_tokens": 8})
    assert after.output_text == expected["choices"][0]["message"]["content"]
    assert after.usage.input_tokens == expected["usage"]["prompt_tokens"] > result.usage.input_tokens


def test_reasoning_is_an_item_of_its_own(client: Any, server: Served, model: TriMode) -> None:
    options: Any = {"model": "any", "input": "Hello", "max_output_tokens": 60, "reasoning": {"effort": "high"}}
    result = client.responses.create(extra_body={"max_thinking_tokens": 8}, **options)
    expected = answered(server, max_tokens=60, max_thinking_tokens=8, reasoning_effort="high")
    message = expected["choices"][0]["message"]
    assert [item.type for item in result.output] == ["reasoning", "message"]
    assert result.output[0].content[0].text == message["reasoning_content"]
    assert result.output_text == message["content"]
    n = result.usage.output_tokens_details.reasoning_tokens
    assert n == expected["usage"]["completion_tokens_details"]["reasoning_tokens"]
    n_text = len(model.tokenize(message["reasoning_content"], add_bos=False))
    assert 0 < n_text < n <= n_text + 3, "with the tag at its end and white space"
    with client.responses.stream(extra_body={"max_thinking_tokens": 8}, **options) as stream:
        final = stream.get_final_response()
    assert final.output[0].content[0].text == message["reasoning_content"]
    assert final.usage.output_tokens_details.reasoning_tokens == n
    history: Any = [*HELLO, *[item.model_dump(exclude_none=True) for item in result.output], *HELLO]
    options["input"] = history
    again = client.responses.create(include=["reasoning.encrypted_content"], store=False, **options)
    turns = [*HELLO, {"role": "assistant", **message}, *HELLO]
    assert again.usage.input_tokens == answered(
        server, messages=turns, reasoning_effort="high", max_tokens=1
    )["usage"]["prompt_tokens"]  # fmt: skip


class Verdict(BaseModel):
    """What the model must fill in."""

    answer: Literal["yes", "no"]
    sure: bool


def test_structured_output(client: Any) -> None:
    result = client.responses.parse(model="any", input="Hello", text_format=Verdict, max_output_tokens=100)
    assert isinstance(result.output_parsed, Verdict)
    form = {"format": {"type": "json_object"}}
    result = client.responses.create(model="any", input="Hello", text=form, max_output_tokens=200)
    assert result.status == "incomplete" or isinstance(json.loads(result.output_text), dict)


def test_what_codex_sends_is_taken(server: Served) -> None:
    body = {
        "model": "any", "instructions": "You are a coding agent.", "store": False, "stream": True,
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        ],
        "tools": [WEATHER | {"description": "x", "strict": False}], "tool_choice": "auto", "parallel_tool_calls": False,
        "reasoning": {"effort": "none", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "abc", "text": {"verbosity": "medium"}, "max_output_tokens": 4,
    }  # fmt: skip
    with server.client.stream("POST", RESPONSES, json=body) as answer:
        assert answer.status_code == 200, answer.read()
        lines = [line for line in answer.iter_lines() if line.startswith("event: ")]
    assert lines[0] == "event: response.created" and lines[-1] == "event: response.incomplete"


def test_errors_are_the_clients(client: Any, q8_gguf: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="unknown mode 'quick'"):
        client.responses.create(model="any", input="Hello", extra_body={"mode": "quick"})
    with served(loader(q8_gguf, LONG_CONTEXT, max_queue=0)) as small:
        body = {"input": "Hello", "stream": True, "ignore_eos": True, "mode": "ar"}
        with small.client.stream("POST", RESPONSES, json=body) as response:
            lines = response.iter_lines()
            next(lines)
            small.stop()
            told = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [event["type"] for event in told[-2:]] == ["error", "response.failed"]
    assert told[-2]["message"] == told[-1]["response"]["error"]["message"] == "the server is stopping"


def item(**fields: Any) -> dict[str, Any]:
    return {"input": [fields]}


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "input is missing"),
    ({"input": 5}, "input"),
    ({"input": []}, "input"),
    (item(role="wizard", content="x"), "input.0.role must be user or assistant"),
    (item(role="user"), "input.0.content is missing"),
    (item(role="user", content=5), "input.0.content must be a list"),
    (item(role="user", content=[{"type": "input_file", "file_id": "x"}]), "input_file is not supported"),
    (item(role="user", content=[{"type": "input_text"}]), "input.0.content.0.text is missing"),
    (item(role="user", content=[{"type": "input_image", "file_id": "x"}]), "image_url is missing"),
    (item(type="item_reference", id="x"), "input.0.type item_reference is not supported"),
    (item(type="function_call", name="f"), "input.0.arguments is missing"),
    (item(type="function_call_output", output="x"), "input.0.call_id is missing"),
    (item(type="reasoning", content=[5]), "input.0.content must be an object"),
    ({"input": "x", "tools": [{"type": "web_search"}]}, "web_search is not supported: only functions are"),
    ({"input": "x", "tools": [{"type": "function"}]}, "tools.0.name is missing"),
    ({"input": "x", "tool_choice": "required"}, "required needs tools"),
    ({"input": "x", "tool_choice": {"type": "mcp"}}, "tool_choice.type must be function or allowed_tools"),
    ({"input": "x", "store": True}, "store true is not supported"),
    ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id is not supported"),
    ({"input": "x", "background": True}, "background is not supported"),
    ({"input": "x", "conversation": "c"}, "conversation is not supported"),
    ({"input": "x", "include": ["message.output_text.logprobs"]}, "include message.output_text.logprobs is not"),
    ({"input": "x", "truncation": "auto"}, "truncation is not supported"),
    ({"input": "x", "text": {"verbosity": "low"}}, "text.verbosity is not supported"),
    ({"input": "x", "text": {"format": {"type": "grammar"}}}, "text.format.type must be text or json_object"),
    ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format.schema is missing"),
    ({"input": "x", "reasoning": {"mode": "pro"}}, "reasoning.mode is not supported"),
    ({"input": "x", "max_output_tokens": "5"}, "max_output_tokens must be a whole number"),
    ({"input": "x", "messages": []}, "unknown field messages"),
]


@pytest.mark.parametrize(("body", "message"), BAD)
def test_what_is_wrong_is_said_by_name(server: Served, body: dict[str, Any], message: str) -> None:
    error = error_of(server.post(RESPONSES, body))
    assert error["code"] == 400 and message in error["message"]


def test_bodies_and_events_are_valid_by_the_clients_types(server: Served) -> None:
    """The client itself does not check them."""
    from openai.types.responses import Response, ResponseStreamEvent

    of_events: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    thinking = {"input": "Hello", "reasoning": {"effort": "high"}, "max_thinking_tokens": 6, "max_output_tokens": 40}
    calling = {"input": "Hello", "tools": [WEATHER], "tool_choice": "required", "max_output_tokens": 60}
    for body in (thinking, calling):
        Response.model_validate(server.post(RESPONSES, body).json())
        with server.client.stream("POST", RESPONSES, json=body | {"stream": True}) as answer:
            lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
        assert len(lines) > 8
        for line in lines:
            of_events.validate_json(line)


def test_a_stored_response_is_not_found(client: Any) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")
