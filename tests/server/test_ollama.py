"""The real `ollama` client against `/api/...`, and what is refused there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.serving import LONG_CONTEXT, PATIENCE, Served, loader, served

from pytrimode import TriMode

ollama = pytest.importorskip("ollama")

HELLO: Any = [{"role": "user", "content": "Hello"}]
OPENAI, CHAT, GENERATE = "/v1/chat/completions", "/api/chat", "/api/generate"
CITY: Any = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "description": "x", "parameters": CITY}}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'


@pytest.fixture
def client(server: Served) -> Any:
    return ollama.Client(host=server.url, timeout=PATIENCE, trust_env=False)


def answered(server: Served, **body: Any) -> dict[str, Any]:
    """What OpenAI's route gives."""
    result: dict[str, Any] = server.post(OPENAI, {"messages": HELLO, **body}).json()
    return result


@pytest.mark.parametrize("mode", ["ar", "self-spec", "diffusion"])
def test_chat_and_generate_give_what_openais_route_gives(client: Any, server: Served, mode: str) -> None:
    expected = answered(server, max_tokens=12, mode=mode)
    options = {"num_predict": 12, "mode": mode, "num_ctx": 4096, "num_gpu": 99}
    found = client.chat(model="any", messages=HELLO, options=options)
    assert found.message.content == expected["choices"][0]["message"]["content"] and found.message.role == "assistant"
    assert found.done is True and found.done_reason == "length" and found.model == "tiny-q8_0"
    assert found.eval_count == 12 and found.prompt_eval_count == expected["usage"]["prompt_tokens"]
    assert found.total_duration > found.eval_duration > 1000
    said = client.generate(model="any", prompt="Hello", options=options)
    assert said.response == found.message.content and said.done_reason == "length"
    kind = {"role": "system", "content": "Be kind."}
    with_system = client.generate(model="any", prompt="Hello", system="Be kind.", options=options)
    assert with_system.response == client.chat(model="any", messages=[kind, *HELLO], options=options).message.content


def test_streams_add_up(client: Any) -> None:
    whole = client.chat(model="any", messages=HELLO)
    *parts, last = client.chat(model="any", messages=HELLO, stream=True)
    assert "".join(part.message.content for part in parts) == whole.message.content and len(parts) > 1
    assert last.done and last.message.content == "" and last.eval_count == whole.eval_count
    assert not any(part.done for part in parts) and last.done_reason == whole.done_reason == "stop"
    *parts, last = client.generate(model="any", prompt="Hello", stream=True)
    assert "".join(part.response for part in parts) == whole.message.content and last.done


def test_a_stream_is_the_default_and_lines_of_json(server: Served) -> None:
    with server.client.stream("POST", CHAT, json={"messages": HELLO, "options": {"num_predict": 4}}) as answer:
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert lines[-1]["done"] is True and lines[0]["message"]["role"] == "assistant"


def test_raw_and_suffix_have_no_template(client: Any, server: Served, model: TriMode) -> None:
    prompt = model.chat_template.render(HELLO)
    expected = server.post("/v1/completions", {"prompt": prompt, "max_tokens": 12}).json()["choices"][0]["text"]
    for stream in (False, True):
        found = client.generate(model="any", prompt=prompt, raw=True, stream=stream, options={"num_predict": 12})
        text = "".join(part.response for part in found) if stream else found.response
        assert text == expected
    sort = {"prompt": "Sort these numbers: ", "suffix": " is r-i-v-e-r."}
    expected = server.post("/v1/completions", {**sort, "max_tokens": 4}).json()["choices"][0]["text"]
    assert client.generate(model="any", options={"num_predict": 4}, **sort).response == expected
    assert client.generate(model="any", options={"num_predict": -2}, **sort).eval_count <= 128


def test_thinking(client: Any, server: Served) -> None:
    options = {"max_thinking_tokens": 8, "num_predict": 60}
    message = answered(
        server, max_tokens=60, max_thinking_tokens=8, chat_template_kwargs={"enable_thinking": True}
    )["choices"][0]["message"]  # fmt: skip
    for think in (True, "high"):
        found = client.chat(model="any", messages=HELLO, think=think, options=options).message
        assert found.thinking == message["reasoning_content"] and found.content == message["content"]
    parts = list(client.chat(model="any", messages=HELLO, think=True, options=options, stream=True))
    assert "".join(part.message.thinking or "" for part in parts) == found.thinking
    assert client.generate(model="any", prompt="Hello", think=True, options=options).thinking == found.thinking
    assert client.chat(model="any", messages=HELLO, think=False, options=options).message.thinking is None
    again = [*HELLO, found, *HELLO]
    assert client.chat(model="any", messages=again, options={"num_predict": 2}).done


def test_format_and_logprobs(client: Any, server: Served) -> None:
    found = client.chat(model="any", messages=HELLO, format=CITY)
    assert json.loads(found.message.content)["city"] in ("Oslo", "Rome")
    found = client.generate(model="any", prompt="Hello", format="json", options={"num_predict": 200})
    assert found.done_reason == "length" or isinstance(json.loads(found.response), dict)
    expected = answered(server, max_tokens=4, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    found = client.chat(model="any", messages=HELLO, logprobs=True, top_logprobs=2, options={"num_predict": 4})
    assert [(one.token, one.logprob) for one in found.logprobs] == [(e["token"], e["logprob"]) for e in expected]
    assert len(found.logprobs[0].top_logprobs) == 2
    options = {"num_predict": 4}
    raw = client.generate(model="any", prompt="Hello", raw=True, logprobs=True, top_logprobs=2, options=options)
    assert len(raw.logprobs) == raw.eval_count


def test_tools_make_a_round_trip(client: Any, server: Served) -> None:
    def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: A city.
        """
        return f"rain in {city}"

    options = {"grammar": f"root ::= {json.dumps('Look: ' + CALL)}"}
    for tools in ([WEATHER], [weather]):
        found = client.chat(model="any", messages=HELLO, tools=tools, options=options).message
        (call,) = found.tool_calls
        assert (call.function.name, call.function.arguments) == ("weather", {"city": "Oslo"})
        assert found.content == "Look:"
    parts = list(client.chat(model="any", messages=HELLO, tools=[WEATHER], options=options, stream=True))
    (streamed,) = [call for part in parts for call in part.message.tool_calls or []]
    assert streamed == call and "".join(part.message.content for part in parts) == "Look:"
    calls = [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]
    turn: Any = {"role": "assistant", "content": "Look:", "tool_calls": calls}
    told = {"role": "tool", "content": "rain"}
    expected = answered(server, messages=[*HELLO, turn, {**told, "tool_call_id": "1"}], tools=[WEATHER], max_tokens=8)
    history = [*HELLO, found, {**told, "tool_name": "weather"}]
    after = client.chat(model="any", messages=history, tools=[WEATHER], options={"num_predict": 8})
    assert after.message.content == expected["choices"][0]["message"]["content"]


def test_a_call_cut_in_half_is_text(server: Served) -> None:
    body = {
        "messages": HELLO, "tools": [WEATHER],
        "options": {"grammar": f"root ::= {json.dumps(CALL)}", "num_predict": 20, "mode": "ar"},
    }  # fmt: skip
    whole = server.post(CHAT, body | {"stream": False}).json()
    assert whole["message"]["content"].startswith("<tool_call>") and "tool_calls" not in whole["message"]
    lines = [json.loads(line) for line in server.post(CHAT, body).text.splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == whole["message"]["content"]


def test_the_model(client: Any, q8_gguf: Path, model: TriMode) -> None:
    (listed,) = client.list().models
    assert listed.model == "tiny-q8_0" and listed.size == q8_gguf.stat().st_size and len(listed.digest) == 64
    assert listed.details.format == "gguf" and listed.details.quantization_level == "Q8_0"
    (running,) = client.ps().models
    assert running.digest == listed.digest and running.context_length == model.n_ctx
    shown = client.show("any")
    assert {"completion", "tools", "thinking", "insert"} <= set(shown.capabilities)
    assert shown.template == model.chat_template.source and shown.details == listed.details
    family = shown.details.family
    assert shown.modelinfo[f"{family}.context_length"] == model.n_ctx
    assert shown.modelinfo["general.parameter_count"] > 1000


def test_a_model_whose_file_is_gone(q8_gguf: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(q8_gguf, tmp_path / "gone.gguf"))
    with served(loader(file, 256)) as server:
        file.unlink()
        for answer in (server.get("/api/tags"), server.get("/api/ps"), server.post("/api/show", {"model": "any"})):
            assert answer.status_code == 503 and "cannot be read" in answer.json()["error"]


def test_without_a_prompt_nothing_is_written(server: Served) -> None:
    for path in (CHAT, GENERATE):
        for keep_alive, reason in ((None, "load"), ("5m", "load"), (0, "unload")):
            found = server.post(path, {"model": "any", "keep_alive": keep_alive}).json()
            assert found["done"] is True and found["done_reason"] == reason
    assert server.get("/api/version").json()["version"].count(".") == 2


def test_errors_are_the_clients_exceptions(client: Any, q8_gguf: Path) -> None:
    with pytest.raises(ollama.ResponseError, match="unknown mode 'quick'") as caught:
        client.chat(model="any", messages=HELLO, options={"mode": "quick"})
    assert caught.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="makes no embeddings"):
        client.embed(model="any", input="x")
    with pytest.raises(ollama.ResponseError, match="there is no such route"):
        client.pull("any")
    with served(loader(q8_gguf, LONG_CONTEXT, max_queue=0)) as small:
        guarded = ollama.Client(host=small.url, timeout=PATIENCE, trust_env=False)
        stream: Iterator[Any] = guarded.chat(model="any", messages=HELLO, stream=True, options={"ignore_eos": True})
        next(stream)
        with pytest.raises(ollama.ResponseError, match="queue is full"):
            guarded.chat(model="any", messages=HELLO)
        small.stop()
        with pytest.raises(ollama.ResponseError, match="the server is stopping"):
            list(stream)


def said(**message: Any) -> dict[str, Any]:
    return {"messages": [message]}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (CHAT, {"messages": 5}, "messages must be a list"),
        (CHAT, {"messages": [5]}, "messages.0"),
        (CHAT, said(role="wizard", content="x"), "messages.0.role must be system or user"),
        (CHAT, said(content="x"), "messages.0.role is missing"),
        (CHAT, said(role="user", content=5), "messages.0.content must be text"),
        (CHAT, said(role="user", content="x", colour=1), "messages.0.colour is not supported"),
        (CHAT, said(role="user", content="x", images=["!"]), "vision"),
        (CHAT, said(role="user", content="x", images=[5]), "images must be base64"),
        (CHAT, said(role="assistant", tool_calls=[{}]), "messages.0.tool_calls.0.function is missing"),
        (CHAT, said(role="assistant", tool_calls=5), "messages.0.tool_calls must be a list"),
        (CHAT, {"messages": HELLO, "tools": [{}]}, "tools.0.function is missing"),
        (CHAT, {"messages": HELLO, "format": "xml"}, 'format must be "json" or a JSON schema'),
        (CHAT, {"messages": HELLO, "options": {"mirostat": 2}}, "mirostat is not supported"),
        (CHAT, {"messages": HELLO, "options": {"temprature": 1}}, "did you mean temperature"),
        (CHAT, {"messages": HELLO, "options": {"temperature": "1"}}, "temperature must be a number"),
        (CHAT, {"messages": HELLO, "temperature": 1}, "unknown field temperature"),
        (CHAT, {"messages": HELLO, "top_logprobs": 1}, "top_logprobs needs logprobs"),
        (CHAT, {"messages": HELLO, "think": 5}, "think"),
        (GENERATE, {"prompt": 5}, "prompt must be"),
        (GENERATE, {"prompt": "x", "context": [1, 2]}, "context is not supported"),
        (GENERATE, {"prompt": "x", "template": "{{ .Prompt }}"}, "template is not supported"),
        (GENERATE, {"prompt": "x", "raw": True, "images": ["x"]}, "images does not go with raw"),
        (GENERATE, {"prompt": "x", "raw": True, "system": "x"}, "system does not go with raw"),
        (GENERATE, {"prompt": "x", "suffix": "y", "think": True}, "think does not go with raw"),
        (GENERATE, {"prompt": "x", "stream": "yes"}, "stream must be true or false"),
        ("/api/show", {"model": 5}, "model must be text"),
    ],
)
def test_what_is_wrong_is_said_in_ollamas_shape(server: Served, path: str, body: dict[str, Any], message: str) -> None:
    answer = server.post(path, body)
    assert answer.status_code == 400 and list(answer.json()) == ["error"], answer.text
    assert message in answer.json()["error"]


def test_bodies_that_are_none(server: Served) -> None:
    for content, kind in ((b"{", "application/json"), (b"[]", "application/json"), (b"{}", "text/plain")):
        answer = server.client.post(CHAT, content=content, headers={"content-type": kind})
        assert answer.status_code in (400, 415) and isinstance(answer.json()["error"], str)
