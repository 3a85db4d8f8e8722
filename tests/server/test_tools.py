"""Tools over HTTP: a real model held to calls by its grammar, read by the real client."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.serving import PATIENCE, Served, error_of, events, loader, served
from support.tool_templates import TEMPLATES

from pytrimode.convert import convert
from pytrimode.formats.tools import joined

openai = pytest.importorskip("openai")

MESSAGES: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
CHAT = "/v1/chat/completions"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"], "type": "string"}, "days": {"enum": [1, 2]}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
NOW: Any = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


def with_template(checkpoint: Path, directory: Path, mention: str) -> Path:
    """The model with a template that shows tools and knows earlier calls."""
    copy = shutil.copytree(checkpoint, directory / "checkpoint")
    template = copy / "chat_template.jinja"
    head = "{% if tools %}{# " + mention.replace("{", "(").replace("}", ")") + " #}{{ tools | tojson }}{% endif %}"
    calls = "{% for m in messages %}{% for c in m.tool_calls or [] %}({{ c.function.arguments.city }})"
    calls += "{% endfor %}{% endfor %}"
    body = template.read_text().replace("['system', 'user']", "['system', 'user', 'tool']")
    template.write_text(head + calls + body)
    return convert(copy, directory / "tools.gguf", "q8_0").path


@pytest.fixture(scope="module", params=["tags", "json", "args"])
def knowing(request: Any, checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("tools")
    with served(loader(with_template(checkpoint_dir, directory, TEMPLATES[request.param]), 1024)) as running:
        yield running


@pytest.fixture
def client(knowing: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=knowing.url + "/v1", api_key="none", max_retries=0, timeout=PATIENCE) as made:
        yield made


@pytest.mark.parametrize("mode", ["ar", "self-spec"])
def test_a_required_call_is_made(client: Any, mode: str) -> None:
    options: Any = {"tools": [WEATHER, NOW], "tool_choice": {"type": "function", "function": {"name": "weather"}}}
    options |= {"max_tokens": 200, "extra_body": {"mode": mode}}
    result = client.chat.completions.create(model="any", messages=MESSAGES, **options)
    (choice,) = result.choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert call.type == "function" and call.id and call.function.name == "weather"
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == {"city", "days"}

    chunks = list(client.chat.completions.create(model="any", messages=MESSAGES, stream=True, **options))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    first, *more = [part for delta in deltas for part in delta.tool_calls or []]
    assert first.index == 0 and first.id and first.function.name == "weather" and len(more) > 2
    assert not any(part.index or part.id or part.function.name for part in more)
    assert "".join(part.function.arguments for part in (first, *more)) == call.function.arguments
    assert not any(delta.content for delta in deltas)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_call_cut_in_half_is_no_call(knowing: Served) -> None:
    """In a stream its beginning was told; the reason to end says that it was cut."""
    body = {"messages": MESSAGES, "tools": [WEATHER], "tool_choice": "required", "mode": "ar"}
    body["max_tokens"] = knowing.post(CHAT, body | {"max_tokens": 200}).json()["usage"]["completion_tokens"] - 20
    (choice,) = knowing.post(CHAT, body).json()["choices"]
    assert choice["finish_reason"] == "length" and "tool_calls" not in choice["message"]
    assert choice["message"]["content"]
    with knowing.client.stream("POST", CHAT, json=body | {"stream": True}) as response:
        *chunks, _ = events(response)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("parallel", [True, False])
def test_parallel_calls_are_told_where_they_are_wanted(server: Served, parallel: bool) -> None:
    call = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    body = {
        "messages": MESSAGES, "tools": [NOW], "parallel_tool_calls": parallel, "max_tokens": 200,
        "grammar": f"root ::= {json.dumps('Look: ' + call + call + ' and more')}",
    }  # fmt: skip
    (choice,) = server.post(CHAT, body).json()["choices"]
    assert len(choice["message"]["tool_calls"]) == (2 if parallel else 1)
    assert choice["message"]["content"] == ("Look: and more" if parallel else "Look:")
    with server.client.stream("POST", CHAT, json=body | {"stream": True}) as response:
        *chunks, _ = events(response)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert joined(one for delta in deltas for one in delta.get("tool_calls", []))[-1]["function"] == {
        "name": "now",
        "arguments": "{}",
    }
    assert max(one["index"] for delta in deltas for one in delta.get("tool_calls", [])) == parallel
    assert "".join(delta.get("content", "") for delta in deltas) == choice["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == choice["finish_reason"] == "tool_calls"


def test_the_schema_of_the_arguments_holds(client: Any) -> None:
    options: Any = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 200, "temperature": 1.5}
    for seed in range(3):
        result = client.chat.completions.create(model="any", messages=MESSAGES, seed=seed, **options)
        arguments = json.loads(result.choices[0].message.tool_calls[0].function.arguments)
        assert arguments["city"] in ("Oslo", "Rome") and arguments["days"] in (1, 2)


def test_a_call_comes_after_the_reasoning(knowing: Served) -> None:
    body = {
        "messages": MESSAGES, "tools": [NOW], "tool_choice": "required", "max_tokens": 300,
        "chat_template_kwargs": {"enable_thinking": True}, "max_thinking_tokens": 8,
    }  # fmt: skip
    (choice,) = knowing.post(CHAT, body).json()["choices"]
    assert choice["message"]["reasoning_content"]
    function = choice["message"]["tool_calls"][0]["function"]
    assert function["name"] == "now" and json.loads(function["arguments"]) == {}


def test_calls_go_back_to_the_template(knowing: Served) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    history = [
        *MESSAGES, {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    ]  # fmt: skip
    prompt = knowing.post("/apply-template", {"messages": history, "tools": [WEATHER]}).json()["prompt"]
    assert '"name": "weather"' in prompt and "(Oslo)" in prompt and "rain" in prompt
    call["function"]["arguments"] = "{"  # type: ignore[index]
    assert "not JSON" in error_of(knowing.post(CHAT, {"messages": history, "tools": [WEATHER]}))["message"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"tool_choice": "required"}, "required needs tools"),
        ({"tools": [NOW], "tool_choice": "always"}, "use auto, none, required"),
        ({"tools": [NOW], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "no function 'x'"),
        ({"tools": [NOW], "tool_choice": "required", "grammar": 'root ::= "a"'}, "not both"),
        ({"tools": [{"type": "function", "function": {"name": 'a"b'}}]}, "tools.0.function.name"),
    ],
)
def test_impossible_choices_are_explained(knowing: Served, extra: dict[str, Any], message: str) -> None:
    assert message in error_of(knowing.post(CHAT, {"messages": MESSAGES, **extra}))["message"]
