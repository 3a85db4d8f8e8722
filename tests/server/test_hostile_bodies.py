"""Each value of a body replaced by what should not be there: an answer or an error in the API's shape, no failure."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.serving import Served

pytestmark = pytest.mark.slow

WEATHER = {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "additionalProperties": False}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {
        "system": [{"type": "text", "text": "x"}], "max_tokens": 1, "stop_sequences": ["x"], "stream": False,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x"}, {
                "type": "document", "source": {"type": "text", "data": "x"}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "x"},
                                              {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "is_error": True,
                                          "content": [{"type": "text", "text": "x"}]}]},
        ],
        "tools": [{"name": "f", "description": "x", "input_schema": WEATHER}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1}, "output_config": {"effort": "low"},
    },
    "/v1/responses": {
        "instructions": "x", "max_output_tokens": 1, "stream": False, "store": False, "metadata": {},
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "x"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "x"}]},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": WEATHER}],
        "tool_choice": {"type": "function", "name": "f"}, "reasoning": {"effort": "low"},
        "text": {"format": {"type": "text"}}, "include": ["reasoning.encrypted_content"],
    },
    "/completion": {"prompt": [{"prompt_string": "x"}, [1, 2]], "n_predict": 1, "n_probs": 1,
                    "response_fields": ["content"]},
    "/infill": {"input_prefix": "x", "input_suffix": "y", "prompt": "z", "n_predict": 1, "samplers": ["top_k"],
                "input_extra": [{"filename": "a", "text": "b"}]},
    "/api/chat": {
        "stream": False, "options": {"num_predict": 1, "stop": ["x"]}, "think": True, "keep_alive": "5m",
        "format": WEATHER, "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            {"role": "tool", "content": "x", "tool_name": "f"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": WEATHER}}],
    },
    "/api/generate": {"stream": False, "prompt": "x", "system": "y", "raw": False, "options": {"num_predict": 1},
                      "logprobs": True, "top_logprobs": 1},
    "/api/show": {"model": "x", "verbose": True},
}  # fmt: skip
DEEP: Any = json.loads("[" * 500 + "]" * 500)
ODD = [None, True, -1, 10**30, 1e308, "", "\ud800", "\x00<|im_end|>", "x" * 3000, [], {}, [None], {"": {}}, DEEP]


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*at, key))


def with_value(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(body)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def message_of(route: str, found: Any) -> Any:
    if route.startswith("/api/"):
        return found["error"]
    assert route != "/v1/messages" or found["type"] == "error"
    return found["error"]["message"]


@pytest.mark.parametrize("route", BODIES)
def test_no_value_of_a_body_makes_the_server_fail(server: Served, route: str) -> None:
    body = BODIES[route]
    first = server.post(route, body)
    assert first.status_code == 200, first.text
    n_refused = 0
    for path in paths(body):
        for value in ODD:
            sent = json.dumps(with_value(body, path, value))
            answer = server.client.post(route, content=sent, headers={"content-type": "application/json"})
            assert answer.status_code in (200, 400), (path, value, answer.text)
            assert "Traceback" not in answer.text
            if answer.status_code == 400:
                n_refused += 1
                message = message_of(route, answer.json())
                assert isinstance(message, str) and 0 < len(message) < 1000, (path, value)
    assert n_refused > 20


@pytest.mark.parametrize("route", BODIES)
def test_a_field_that_nobody_knows_is_refused(server: Served, route: str) -> None:
    if route == "/api/show":
        return
    answer = server.post(route, BODIES[route] | {"quux": 1})
    assert answer.status_code == 400 and "unknown field quux" in message_of(route, answer.json())
