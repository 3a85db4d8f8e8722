"""Fields of other APIs: each is mapped, refused by name, or changes nothing, as the table in docs/server.md says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.serving import Served, error_of, events

from pytrimode import TriMode
from pytrimode.bench.report import markdown_table
from pytrimode.server.apis.anthropic.schema import FIELDS as ANTHROPIC
from pytrimode.server.apis.ollama import schema as ollama
from pytrimode.server.apis.responses.schema import FIELDS as RESPONSES
from pytrimode.server.fields import MAPPED, NO_EFFECT, REFUSED, table

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
PROMPT = {"prompt": "Sort these numbers: 5, 3, 9", "max_tokens": 8}
TALK = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
NOTHING = [None, False, 0, -1, "", [], {}]
ODD: dict[str, Any] = {"store": True, "tfs_z": 0.5, "length_penalty": 2.0, "best_of": 3, "min_keep": 5}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs/server.md"


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize(("path", "body"), [(CHAT, TALK), (COMPLETIONS, PROMPT)])
def test_what_cannot_be_kept_is_refused_by_name(server: Served, path: str, body: dict[str, Any], name: str) -> None:
    if path == COMPLETIONS and name in ("echo", "suffix"):
        return
    error = error_of(server.post(path, body | {name: ODD.get(name, "something")}))
    assert error["code"] == 400 and error["param"] == name and f"{name} is not supported" in error["message"]
    for idle in (*REFUSED[name].idle, None):
        assert server.post(path, body | {name: idle}).status_code == 200


def test_what_no_answer_depends_on_changes_nothing(server: Served) -> None:
    extra: dict[str, Any] = {name: 1 for names in NO_EFFECT.values() for name in names}
    assert text_of(server.post(COMPLETIONS, PROMPT | extra)) == text_of(server.post(COMPLETIONS, PROMPT))
    assert text_of(server.post(CHAT, TALK | extra)) == text_of(server.post(CHAT, TALK))


def test_every_mapped_field_does_something(server: Served, model: TriMode) -> None:
    def completed(**fields: Any) -> str:
        return text_of(server.post(COMPLETIONS, {**PROMPT, "max_tokens": 40, **fields}))

    def loops(**fields: Any) -> str:
        return completed(ignore_eos=True, loop_window=0, **fields)

    first = model.tokenize(completed(), add_bos=False)[0]
    biased = completed(logit_bias={str(first): -100})
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    tried: dict[str, bool] = {
        "logit_bias": completed(logit_bias=[[first, False]]) == biased != completed(),
        "n_predict": completed(max_tokens=None, n_predict=3) == completed(max_tokens=3),
        "max_completion_tokens": completed(max_completion_tokens=3) == completed(max_tokens=3),
        "repetition_penalty": loops(repetition_penalty=50) == loops(repeat_penalty=50) != loops(),
        "samplers": completed(samplers=["top_k"], temperature=0, top_k=1) == completed(),
        "stop": completed(stop=["", "zzz"]) == completed(stop="") == completed(),
        "json_schema": json.loads(completed(json_schema=schema))["n"] in (1, 2),
        "guided_json": json.loads(completed(guided_json=json.dumps(schema)))["n"] in (1, 2),
        "guided_regex": completed(guided_regex="(ab){2}") == "abab",
        "guided_choice": completed(guided_choice=["left", "right"]) in ("left", "right"),
        "guided_grammar": completed(guided_grammar='root ::= "x" "y"') == "xy",
        "structured_outputs": completed(structured_outputs={"choice": ["left"], "json": None}) == "left",
    }
    answer = server.post(COMPLETIONS, PROMPT | {"n_cmpl": 2, "n_probs": 2}).json()["choices"]
    tried["n_cmpl"] = len(answer) == 2
    tried["n_probs"] = len(answer[0]["logprobs"]["top_logprobs"][0]) == 2
    documents = {"chat_template_kwargs": None, "documents": [{"title": "a", "text": "b"}]}
    tried["documents"] = server.post(CHAT, TALK | documents).status_code == 200
    assert tried == dict.fromkeys(MAPPED, True)
    chat = server.post(CHAT, TALK | {"n_probs": 2}).json()["choices"][0]["logprobs"]["content"]
    assert len(chat[0]["top_logprobs"]) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temprature": 1}, "unknown field temprature: did you mean temperature?"),
        ({"qqq": 1}, "unknown field qqq: no field of this API has that name"),
        ({"constraint": {"regex": "a"}}, "unknown field constraint"),
        ({"samplers": ["top_p", "top_k"]}, "samplers: the order is penalties, dry, top_k"),
        ({"samplers": "top_k"}, "samplers must be a list"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag is not supported"),
        ({"guided_choice": "left"}, "guided_choice must be a list of texts"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_regex": 5}, "guided_regex must be text"),
        ({"guided_json": "{"}, "not JSON"),
        ({"guided_regex": "a", "grammar": 'root ::= "a"'}, "not both"),
        ({"stop": 5}, "stop must be text or a list of at most 16 texts"),
        ({"stop": [None]}, "stop must be text or a list of at most 16 texts"),
        ({"logit_bias": [["a", 1]]}, "pairs of a token id and a number"),
    ],
)
def test_what_is_wrong_is_said_in_words_of_the_api(server: Served, fields: dict[str, Any], message: str) -> None:
    error = error_of(server.post(COMPLETIONS, PROMPT | fields))
    assert error["code"] == 400 and message in error["message"] and error["param"]


def test_log_probabilities_of_the_prompt(server: Served, model: TriMode) -> None:
    ids = model.prompt_tokens("What is 2 + 3?")
    expected: Any = model.create_completion(ids, echo=True, logprobs=1, max_tokens=1, temperature=0.0)
    for prompt, n in ((ids, 0), ("What is 2 + 3?", 1)):
        body = {"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": n, "ignore_eos": True}
        (choice,) = server.post(COMPLETIONS, body).json()["choices"]
        found = choice["logprobs"]
        assert found["token_logprobs"][: len(ids)] == expected["choices"][0]["logprobs"]["token_logprobs"][: len(ids)]
        assert len(found["tokens"]) == len(ids) + n and choice["finish_reason"] == "length"
    with server.client.stream("POST", COMPLETIONS, json=body | {"stream": True}) as response:
        *chunks, _ = events(response)
    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [p for part in streamed if part for p in part["tokens"]] == found["tokens"]


@pytest.mark.parametrize(
    ("name", "header", "rows"),
    [
        ("fields", ["field", "of", "what becomes of it"], table()),
        ("anthropic", ["field", "what becomes of it"], ANTHROPIC.rows()),
        ("responses", ["field", "what becomes of it"], RESPONSES.rows()),
        ("ollama chat", ["field", "what becomes of it"], ollama.FIELDS.rows()),
        ("ollama generate", ["field", "what becomes of it"], ollama.GENERATE_FIELDS.rows()),
        ("ollama options", ["field", "what becomes of it"], ollama.OPTION_FIELDS.rows()),
    ],
)
def test_the_documents_have_the_table(name: str, header: list[str], rows: list[list[str]]) -> None:
    _, _, rest = DOCUMENT.read_text().partition(f"<!-- {name} -->\n")
    written, end, _ = rest.partition(f"\n<!-- /{name} -->")
    assert end and written == markdown_table(header, rows).strip()
