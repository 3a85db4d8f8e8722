"""The real `anthropic` client against `/v1/messages`, and what is refused there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from support.serving import LONG_CONTEXT, PATIENCE, Served, loader, served

from pytrimode import TriMode

anthropic = pytest.importorskip("anthropic")

HELLO: Any = [{"role": "user", "content": "Hello"}]
OPENAI, MESSAGES, COUNT = "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
TOLD = {"type": "function", "function": {**WEATHER, "parameters": WEATHER["input_schema"]}}
del TOLD["function"]["input_schema"]  # type: ignore[attr-defined]


@pytest.fixture
def client(server: Served) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=PATIENCE) as made:
        yield made


def answered(server: Served, **body: Any) -> dict[str, Any]:
    """The choice that OpenAI's route gives."""
    result: dict[str, Any] = server.post(OPENAI, {"messages": HELLO, **body}).json()["choices"][0]
    return result


@pytest.mark.parametrize("mode", ["ar", "self-spec", "diffusion"])
def test_a_message_is_the_answer_that_chat_gives(client: Any, server: Served, mode: str) -> None:
    expected = answered(server, max_tokens=12, mode=mode)
    result = client.messages.create(model="any", messages=HELLO, max_tokens=12, extra_body={"mode": mode})
    (block,) = result.content
    assert block.type == "text" and block.text == expected["message"]["content"]
    assert result.role == "assistant" and result.model == "tiny-q8_0" and result.id.startswith("msg_")
    assert result.stop_reason == "max_tokens" and result.stop_sequence is None
    usage = result.usage
    assert usage.output_tokens == 12
    counted = client.messages.count_tokens(model="any", messages=HELLO).input_tokens
    assert usage.input_tokens + usage.cache_read_input_tokens == counted > 0


def test_a_stream_adds_up_to_the_message(client: Any) -> None:
    options: Any = {
        "model": "any",
        "messages": HELLO,
        "max_tokens": 20,
        "system": [{"type": "text", "text": "Be kind."}],
    }
    whole = client.messages.create(**options)
    with client.messages.stream(**options) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.stop_reason == whole.stop_reason and final.usage.output_tokens == whole.usage.output_tokens
    kinds = [event.type for event in client.messages.create(stream=True, **options)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}


def test_stop_sequences(client: Any, server: Served) -> None:
    text = answered(server, max_tokens=30)["message"]["content"]
    stop = text[5:8]
    result = client.messages.create(model="any", messages=HELLO, max_tokens=30, stop_sequences=["zzz", stop])
    assert result.stop_reason == "stop_sequence" and result.stop_sequence == stop
    assert result.content[0].text == text[: text.index(stop)]


def test_a_last_message_of_the_assistant_is_continued(client: Any, server: Served) -> None:
    messages: Any = [*HELLO, {"role": "assistant", "content": [{"type": "text", "text": "I am"}]}]
    flat = [*HELLO, {"role": "assistant", "content": "I am"}]
    expected = answered(server, messages=flat, continue_final_message=True, max_tokens=8)
    result = client.messages.create(model="any", messages=messages, max_tokens=8)
    assert result.content[0].text == expected["message"]["content"]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_tools_make_a_round_trip(client: Any, server: Served, choice: Any) -> None:
    question: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    options: Any = {"model": "any", "max_tokens": 100, "tools": [WEATHER]}
    result = client.messages.create(messages=question, tool_choice=choice, **options)
    (call,) = result.content
    assert result.stop_reason == "tool_use"
    assert call.type == "tool_use" and call.name == "weather" and call.input["city"] in ("Oslo", "Rome")

    with client.messages.stream(messages=question, tool_choice=choice, **options) as stream:
        parts = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert len(parts) > 2 and json.loads("".join(parts)) == final.content[0].input == call.input
    assert final.stop_reason == "tool_use"

    answer = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "rain"}]}
    history = [*question, {"role": "assistant", "content": result.content}, {"role": "user", "content": [answer]}]
    calls = [{"id": call.id, "type": "function", "function": {"name": "weather", "arguments": json.dumps(call.input)}}]
    ours = [
        *question, {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]  # fmt: skip
    expected = answered(server, messages=ours, tools=[TOLD], max_tokens=8)
    after = client.messages.create(messages=history, **options | {"max_tokens": 8})
    assert after.content[0].text == expected["message"]["content"]
    wrong = [*history[:2], {"role": "user", "content": [answer | {"is_error": True}, {"type": "text", "text": "Hm."}]}]
    counts = [client.messages.count_tokens(model="any", messages=m, tools=[WEATHER]).input_tokens
              for m in (question, history, wrong)]  # fmt: skip
    assert counts == sorted(set(counts)), "each adds to the prompt"


def test_thinking_comes_in_blocks_of_its_own(client: Any, server: Served) -> None:
    options: Any = {"model": "any", "messages": HELLO, "max_tokens": 60}
    thinking = {"type": "enabled", "budget_tokens": 8}
    result = client.messages.create(thinking=thinking, **options)
    expected = answered(server, max_tokens=60, max_thinking_tokens=8, chat_template_kwargs={"enable_thinking": True})[
        "message"
    ]
    assert [block.type for block in result.content] == ["thinking", "text"]
    assert result.content[0].thinking == expected["reasoning_content"] and result.content[1].text == expected["content"]
    with client.messages.stream(thinking=thinking, **options) as stream:
        final = stream.get_final_message()
    assert [block.model_dump(exclude_none=True) for block in final.content] == [
        block.model_dump(exclude_none=True) for block in result.content
    ]
    again = [*HELLO, {"role": "assistant", "content": result.content}, *HELLO]
    assert client.messages.create(model="any", messages=again, max_tokens=4).content
    off = client.messages.create(thinking={"type": "disabled"}, **options)
    assert [block.type for block in off.content] == ["text"]


def test_bodies_and_events_are_valid_by_the_clients_types(server: Served) -> None:
    """The client itself does not check them."""
    of_events: TypeAdapter[Any] = TypeAdapter(anthropic.types.RawMessageStreamEvent)
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 6}, "max_tokens": 40}
    calling = {"tools": [WEATHER], "tool_choice": {"type": "any"}, "max_tokens": 60}
    for more in (thinking, calling):
        body = {"messages": HELLO, **more}
        anthropic.types.Message.model_validate(server.post(MESSAGES, body).json())
        with server.client.stream("POST", MESSAGES, json=body | {"stream": True}) as answer:
            lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
        assert len(lines) > 8
        for line in lines:
            of_events.validate_json(line)


def test_structured_output(client: Any) -> None:
    schema = WEATHER["input_schema"]
    result = client.messages.create(
        model="any", messages=HELLO, max_tokens=60, output_config={"format": {"type": "json_schema", "schema": schema}}
    )
    assert json.loads(result.content[0].text)["city"] in ("Oslo", "Rome")


def test_what_coding_agents_send_is_taken(server: Served) -> None:
    body = {
        "model": "claude-x", "max_tokens": 4, "stream": True, "metadata": {"user_id": "u"}, "temperature": 1,
        "system": [{"type": "text", "text": "You are a tool.", "cache_control": {"type": "ephemeral"}}] * 2,
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "<system-reminder>Be quick.</system-reminder>"},
            {"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}]}],
        "tools": [WEATHER | {"cache_control": {"type": "ephemeral"}}], "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
    }  # fmt: skip
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "a,b", "x-api-key": "none"}
    answer = server.post(MESSAGES + "?beta=true", body, headers=headers)
    assert answer.status_code == 200 and answer.text.startswith("event: message_start\ndata: {")


def test_errors_are_the_clients_exceptions(client: Any, q8_gguf: Path) -> None:
    with pytest.raises(anthropic.BadRequestError, match="unknown mode 'quick'") as caught:
        client.messages.create(model="any", messages=HELLO, max_tokens=4, extra_body={"mode": "quick"})
    assert caught.value.body["type"] == "error" and caught.value.body["error"]["type"] == "invalid_request_error"
    with served(loader(q8_gguf, LONG_CONTEXT, max_queue=0), api_keys=("right",)) as guarded:
        options: Any = {"base_url": guarded.url, "max_retries": 0, "timeout": PATIENCE}
        asked: Any = {"model": "any", "messages": HELLO, "max_tokens": 100_000, "extra_body": {"ignore_eos": True}}
        with anthropic.Anthropic(api_key="wrong", **options) as wrong, pytest.raises(anthropic.AuthenticationError):
            wrong.messages.create(**asked)
        with (
            anthropic.Anthropic(api_key="right", **options) as right,
            right.messages.create(stream=True, **asked) as stream,
        ):
            next(iter(stream))
            with pytest.raises(anthropic.RateLimitError, match="queue is full"):
                right.messages.create(model="any", messages=HELLO, max_tokens=4)
            guarded.stop()
            with pytest.raises(anthropic.APIError, match="the server is stopping"):
                list(stream)


def user(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "messages is missing"),
    ({"messages": []}, "messages must have at least 1 item"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role must be 'user', 'assistant' or 'system'"),
    ({"messages": [{"role": "user"}]}, "messages.0.content is missing"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content must be text or a list"),
    (user("x"), "messages.0.content must be"),
    (user({"text": "x"}), "messages.0.content.0.type is missing"),
    (user({"type": "text"}), "messages.0.content.0.text is missing"),
    (user({"type": "text", "text": 5}), "messages.0.content.0.text must be text"),
    (user({"type": "text", "text": "x", "colour": 1}), "messages.0.content.0.colour is not supported"),
    (
        user({"type": "tool_use", "id": "1", "name": "f", "input": {}}),
        "tool_use is not supported in a turn of the user",
    ),
    (user({"type": "server_tool_use"}), "messages.0.content.0.type server_tool_use is not supported"),
    (user({"type": "tool_result", "content": "x"}), "messages.0.content.0.tool_use_id is missing"),
    (user({"type": "tool_result", "tool_use_id": "1", "content": 5}), "must be text or a list of blocks"),
    (user({"type": "image", "source": {"type": "url", "url": "http://x"}}), "source.type must be base64"),
    (user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "!"}}), "vision"),
    (user({"type": "document", "source": {"type": "base64", "data": "x"}}), "source.type must be text"),
    ({"messages": HELLO, "system": 5}, "system"),
    ({"messages": HELLO, "system": [{"type": "image"}]}, "system.0.type must be text"),
    ({"messages": HELLO, "tools": [5]}, "tools.0 must be an object"),
    ({"messages": HELLO, "tools": [{"name": "x"}]}, "tools.0.input_schema is missing"),
    ({"messages": HELLO, "tools": [{"name": "a b", "input_schema": {}}]}, "tools.0.function.name must match"),
    ({"messages": HELLO, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "only functions are"),
    ({"messages": HELLO, "tool_choice": {"type": "any"}}, "required needs tools"),
    ({"messages": HELLO, "tool_choice": {"type": "some"}}, "tool_choice.type must be auto or any or tool or none"),
    ({"messages": HELLO, "tool_choice": {"type": "tool"}}, "tool_choice.name is missing"),
    ({"messages": HELLO, "thinking": {"type": "enabled"}}, "thinking.budget_tokens is missing"),
    ({"messages": HELLO, "thinking": {"type": "enabled", "budget_tokens": True}}, "must be a whole number"),
    ({"messages": HELLO, "output_config": {"format": {"type": "xml"}}}, "format.type must be json_schema"),
    ({"messages": HELLO, "mcp_servers": [{"url": "x"}]}, "mcp_servers is not supported"),
    ({"messages": HELLO, "container": "x"}, "container is not supported"),
    ({"messages": HELLO, "context_management": {"edits": [1]}}, "context_management is not supported"),
    ({"messages": HELLO, "temprature": 1}, "unknown field temprature: did you mean temperature?"),
    ({"messages": HELLO, "n": 2}, "unknown field n"),
]


@pytest.mark.parametrize(("body", "message"), BAD)
def test_what_is_wrong_is_said_in_anthropics_shape(server: Served, body: dict[str, Any], message: str) -> None:
    for path in (MESSAGES, COUNT):
        answer = server.post(path, body)
        assert answer.status_code == 400, answer.text
        found = answer.json()
        assert found["type"] == "error" and found["error"]["type"] == "invalid_request_error"
        assert message in found["error"]["message"]


def test_only_messages_are_answered(server: Served) -> None:
    assert server.post(MESSAGES, {"messages": HELLO, "stop_sequences": [""]}).status_code == 400
    assert server.post(MESSAGES, {"messages": HELLO, "max_tokens": "4"}).status_code == 400
    for content, kind in ((b"{", "application/json"), (b"[]", "application/json"), (b"a=1", "text/plain")):
        answer = server.client.post(MESSAGES, content=content, headers={"content-type": kind})
        assert answer.status_code in (400, 415) and answer.json()["type"] == "error"
    assert server.get(MESSAGES).json()["type"] == "error"


def test_a_count_is_the_prompts(client: Any, model: TriMode) -> None:
    prompt = model.chat_prompt([{"role": "system", "content": "Be kind."}, *HELLO])
    assert client.messages.count_tokens(model="any", messages=HELLO, system="Be kind.").input_tokens == len(
        prompt.tokens
    )


def test_models(client: Any) -> None:
    (listed,) = client.models.list().data
    assert listed.id == "tiny-q8_0" and listed.created_at.year > 2000
    assert client.models.retrieve("tiny-q8_0") == listed
