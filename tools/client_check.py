"""Well-known clients against a real server: chat, stream, structured output, tools.

    pip install openai anthropic ollama litellm langchain-openai llm && python tools/client_check.py [MODEL.gguf]
    make test-clients    # the clients in an environment of their own

Prints a table for docs/server.md; exits with 1 if anything failed, or a client is not installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MESSAGES = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
CITY = {
    "type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"],
    "additionalProperties": False,
}  # fmt: skip
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": CITY}}
KEY = "secret"
Check = Callable[[str, str], dict[str, bool]]


def _is_city(arguments: str) -> bool:
    return json.loads(arguments)["city"] in ("Oslo", "Rome")


def check_openai(url: str, expected: str) -> dict[str, bool]:
    """Return the client that OpenAI makes."""
    import openai

    with openai.OpenAI(base_url=url, api_key=KEY) as client:
        create: Any = client.chat.completions.create
        options: dict[str, Any] = {"model": "any", "messages": MESSAGES, "temperature": 0}
        streamed = [chunk.choices[0].delta.content or "" for chunk in create(stream=True, **options)]
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
        structured = create(response_format=form, **options).choices[0].message.content
        message = create(tools=[TOOL], tool_choice="required", **options).choices[0].message
        call = message.tool_calls[0]
        parts = [
            part.function.arguments
            for chunk in create(tools=[TOOL], tool_choice="required", stream=True, **options)
            for part in chunk.choices[0].delta.tool_calls or []
        ]
        history = [*MESSAGES, message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
        after = create(tools=[TOOL], **options | {"messages": history}).choices[0].message.content
        return {
            "chat": create(**options).choices[0].message.content == expected,
            "stream": "".join(streamed) == expected,
            "structured": "sure" in json.loads(structured),
            "tools": "".join(parts) == call.function.arguments and _is_city(call.function.arguments) and bool(after),
        }


def check_responses(url: str, expected: str) -> dict[str, bool]:
    """Return the same client by OpenAI's newer route."""
    import openai

    with openai.OpenAI(base_url=url, api_key=KEY) as client:
        options: dict[str, Any] = {"model": "any", "input": "Hello", "temperature": 0}
        with client.responses.stream(**options) as stream:
            streamed = stream.get_final_response().output_text
        form: Any = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}
        tools: Any = [{"type": "function", **TOOL["function"]}]  # type: ignore[dict-item]
        with client.responses.stream(tools=tools, tool_choice="required", **options) as stream:
            call: Any = stream.get_final_response().output[0]
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
        history: Any = [*MESSAGES, call.model_dump(exclude={"parsed_arguments"}), output]
        after = client.responses.create(tools=tools, **options | {"input": history})
        return {
            "tools": _is_city(call.arguments) and bool(after.output_text),
            "chat": client.responses.create(**options).output_text == expected,
            "stream": streamed == expected,
            "structured": "sure" in json.loads(client.responses.create(text=form, **options).output_text),
        }


def check_anthropic(url: str, expected: str) -> dict[str, bool]:
    """Return the client that Anthropic makes."""
    import anthropic

    with anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key=KEY) as client:
        options: dict[str, Any] = {"model": "any", "messages": MESSAGES, "max_tokens": 500}
        with client.messages.stream(**options) as stream:
            streamed = "".join(stream.text_stream)
        form = {"format": {"type": "json_schema", "schema": SCHEMA}}
        structured: Any = client.messages.create(output_config=form, **options).content[0]  # type: ignore[call-overload]
        whole: Any = client.messages.create(**options).content[0]
        tools: Any = [{"name": "weather", "input_schema": CITY}]
        with client.messages.stream(tools=tools, tool_choice={"type": "any"}, **options) as stream:
            call: Any = stream.get_final_message().content[0]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
        turns = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
        after = client.messages.create(tools=tools, **options | {"messages": [*MESSAGES, *turns]})
        return {
            "tools": call.input["city"] in ("Oslo", "Rome") and bool(after.content),
            "chat": whole.text == expected,
            "stream": streamed == expected,
            "structured": "sure" in json.loads(structured.text),
        }


def check_ollama(url: str, expected: str) -> dict[str, bool]:
    """Return the client that Ollama makes."""
    import ollama

    client = ollama.Client(host=url.removesuffix("/v1"), headers={"Authorization": f"Bearer {KEY}"})
    options: dict[str, Any] = {"model": "any", "messages": MESSAGES, "options": {"temperature": 0}}
    streamed = [part.message.content or "" for part in client.chat(stream=True, **options)]
    structured = client.chat(format=SCHEMA, **options).message.content or ""
    # It has no word for a call that is required: a grammar writes one.
    written = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
    forced = options | {"options": {"grammar": f"root ::= {json.dumps(written)}"}}
    message = client.chat(tools=[TOOL], **forced).message
    result = {"role": "tool", "tool_name": "weather", "content": "rain"}
    after = client.chat(tools=[TOOL], **options | {"messages": [*MESSAGES, message, result]}).message.content
    return {
        "tools": (message.tool_calls or [])[0].function.arguments == {"city": "Oslo"} and bool(after),
        "chat": client.chat(**options).message.content == expected,
        "stream": "".join(streamed) == expected,
        "structured": "sure" in json.loads(structured),
    }


def check_litellm(url: str, expected: str) -> dict[str, bool]:
    """One interface to many providers."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would ask GitHub for prices
    import litellm

    options: dict[str, Any] = {
        "model": "openai/any", "messages": MESSAGES, "api_base": url, "api_key": KEY, "temperature": 0,
    }  # fmt: skip
    streamed = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(stream=True, **options)]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    structured = litellm.completion(response_format=form, **options).choices[0].message.content
    message = litellm.completion(tools=[TOOL], tool_choice="required", **options).choices[0].message
    call = message.tool_calls[0]
    history = [*MESSAGES, message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    after = litellm.completion(tools=[TOOL], **options | {"messages": history}).choices[0].message.content
    return {
        "tools": _is_city(call.function.arguments) and bool(after),
        "chat": litellm.completion(**options).choices[0].message.content == expected,
        "stream": "".join(streamed) == expected,
        "structured": "sure" in json.loads(structured),
    }


def check_langchain(url: str, expected: str) -> dict[str, bool]:
    """LangChain's ChatOpenAI."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=url, api_key=KEY, model="any", temperature=0)  # type: ignore[arg-type]
    from langchain_core.messages import HumanMessage, ToolMessage

    forced = model.bind_tools([TOOL], tool_choice="any")  # type: ignore[list-item]
    message = forced.invoke("Hello")
    chunks = list(forced.stream("Hello"))
    streamed: Any = chunks[0]
    for chunk in chunks[1:]:
        streamed += chunk
    (call,) = message.tool_calls
    history = [HumanMessage("Hello"), message, ToolMessage("rain", tool_call_id=call["id"])]
    after = model.bind_tools([TOOL]).invoke(history).content  # type: ignore[list-item]
    structured = model.with_structured_output({"title": "x", **SCHEMA}, method="json_schema").invoke("Hello")
    return {
        "tools": streamed.tool_calls[0]["args"] == call["args"]
        and call["args"]["city"] in ("Oslo", "Rome")
        and bool(after),
        "chat": model.invoke("Hello").content == expected,
        "stream": "".join(str(chunk.content) for chunk in model.stream("Hello")) == expected,
        "structured": "sure" in structured,
    }


def check_llm(url: str, expected: str) -> dict[str, bool]:
    """Simon Willison's command `llm`, as its users run it."""
    with tempfile.TemporaryDirectory() as directory:
        models = f"- {{model_id: tiny, model_name: any, api_base: '{url}', api_key_name: tiny}}\n"
        (Path(directory) / "extra-openai-models.yaml").write_text(models)
        (Path(directory) / "keys.json").write_text(json.dumps({"tiny": KEY}))
        environment = {**os.environ, "LLM_USER_PATH": directory}

        def run(*options: str) -> str:
            command = [sys.executable, "-m", "llm", "prompt", "-m", "tiny", "-o", "temperature", "0", *options, "Hello"]
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

        return {"chat": run("--no-stream") == expected, "stream": run() == expected}


CLIENTS: dict[str, Check] = {
    "openai": check_openai,
    "openai responses": check_responses,
    "anthropic": check_anthropic,
    "ollama": check_ollama,
    "litellm": check_litellm,
    "langchain-openai": check_langchain,
    "llm": check_llm,
}
FEATURES = ["chat", "stream", "structured", "tools"]


@contextmanager
def serving(program: list[str], model: list[str]) -> Iterator[str]:
    """Its address, once the model is loaded."""
    command = [*program, "serve", *model, "--port", "0", "-t", "1"]
    environment = {**os.environ, "PYTRIMODE_API_KEY": KEY}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stderr
            lines = iter(server.stderr)
            found = next(filter(None, (re.search(r"http://\S+", line) for line in lines)))
            next(line for line in lines if "model loaded" in line)
            threading.Thread(target=lambda: list(lines), daemon=True).start()
            yield found[0]
        finally:
            server.terminate()


def main() -> int:
    """One row for each client."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="*", help="GGUF file (default: the shipped checkpoint)")
    parser.add_argument("--server", help="the command `pytrimode` (default: of this Python)")
    args = parser.parse_args()
    program = [args.server] if args.server else [sys.executable, "-m", "pytrimode"]
    import httpx

    failed = 0
    print("| client | " + " | ".join(FEATURES) + " |\n|---|" + "---|" * len(FEATURES))
    with serving(program, args.model) as address:
        body = {"messages": MESSAGES, "temperature": 0}
        answer = httpx.post(
            address + "/v1/chat/completions", json=body, headers={"X-Api-Key": KEY}, timeout=60, trust_env=False
        )
        expected = answer.json()["choices"][0]["message"]["content"]
        for name, check in CLIENTS.items():
            try:
                version = importlib.metadata.version(name.split()[0])
            except importlib.metadata.PackageNotFoundError:
                print(f"| {name} | NOT INSTALLED |")
                failed += 1
                continue
            try:
                results = check(address + "/v1", expected)
            except Exception as error:  # each client has its own
                results = dict.fromkeys(FEATURES, False)
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            failed += sum(not ok for ok in results.values())
            cells = [{True: "yes", False: "NO", None: ""}[results.get(feature)] for feature in FEATURES]
            print(f"| {name} {version} | " + " | ".join(cells) + " |")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
