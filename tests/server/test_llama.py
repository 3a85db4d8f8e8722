"""llama-server's own routes: /completion and /infill, with what llama.vim and llama.vscode send."""

from __future__ import annotations

import math
from typing import Any

import pytest
from support.serving import Served, error_of, events

from pytrimode import TriMode
from pytrimode.server.infill import Around, fitted

NATIVE, INFILL, OPENAI = "/completion", "/infill", "/v1/completions"
PROMPT = "<|im_start|>user\nSort these numbers: 5, 3, 9<|im_end|>\n<|im_start|>assistant\n<think></think>"
CODE = "def get_total(price, tax):\n    return "


def told(server: Served, path: str, body: dict[str, Any]) -> list[Any]:
    with server.client.stream("POST", path, json=body | {"stream": True}) as response:
        return events(response)


@pytest.mark.parametrize("mode", ["ar", "self-spec", "diffusion"])
def test_a_completion_is_what_openais_route_gives(server: Served, model: TriMode, mode: str) -> None:
    expected = server.post(OPENAI, {"prompt": PROMPT, "max_tokens": 12, "mode": mode}).json()
    ids = model.prompt_tokens(PROMPT)
    for prompt in (PROMPT, ids, {"prompt_string": PROMPT}):
        body = {"prompt": prompt, "n_predict": 12, "mode": mode, "return_tokens": True}
        found = server.post(NATIVE, body).json()
        assert found["content"] == expected["choices"][0]["text"] and found["stop"] is True
    assert model.detokenize(found["tokens"]).decode() == found["content"] and len(found["tokens"]) == 12
    assert (found["stop_type"], found["stopping_word"], found["truncated"]) == ("limit", "", False)
    assert found["tokens_predicted"] == 12 and found["tokens_evaluated"] == len(ids)
    assert found["model"] == "tiny-q8_0" and found["prompt"].endswith(PROMPT) and found["index"] == 0
    assert found["generation_settings"]["mode"] == mode and found["generation_settings"]["n_ctx"] == model.n_ctx
    assert found["timings"]["predicted_n"] == 12 and found["has_new_line"] is ("\n" in found["content"])
    assert server.post(NATIVE, body | {"return_tokens": None}).json()["tokens"] == []


def test_it_ends_at_an_end_a_word_or_the_context(server: Served) -> None:
    whole = server.post(NATIVE, {"prompt": PROMPT}).json()
    assert whole["stop_type"] == "eos" and whole["tokens_predicted"] > 16, "to the end, unlike OpenAI's"
    word = whole["content"][6:9]
    cut = server.post(NATIVE, {"prompt": PROMPT, "stop": [word]}).json()
    assert (cut["stop_type"], cut["stopping_word"]) == ("word", word)
    assert cut["content"] == whole["content"].partition(word)[0]
    full = server.post(NATIVE, {"prompt": "a " * 480, "ignore_eos": True, "loop_window": 0, "mode": "ar"}).json()
    assert full["stop_type"] == "limit" and full["truncated"] is True


def test_a_stream_adds_up(server: Served) -> None:
    body = {"prompt": PROMPT, "n_predict": 20}
    whole = server.post(NATIVE, body | {"return_tokens": True}).json()
    *parts, last = told(server, NATIVE, body)
    assert "".join(part["content"] for part in parts) == whole["content"] and len(parts) > 1
    assert [token for part in parts for token in part["tokens"]] == whole["tokens"]
    assert not any(part["stop"] for part in parts) and last["content"] == "" and last["tokens"] == []
    assert {**last, "content": 0, "tokens": 0, "timings": 0, "tokens_cached": 0} == {
        **whole, "content": 0, "tokens": 0, "timings": 0, "tokens_cached": 0,
    }  # fmt: skip


def test_several_prompts_are_a_list(server: Served) -> None:
    single = [server.post(NATIVE, {"prompt": prompt, "n_predict": 5}).json()["content"] for prompt in (PROMPT, "Hello")]
    many = server.post(NATIVE, {"prompt": [PROMPT, {"prompt_string": "Hello"}], "n_predict": 5}).json()
    assert [one["content"] for one in many] == single and [one["index"] for one in many] == [0, 1]
    parts = told(server, NATIVE, {"prompt": [PROMPT, "Hello"], "n_predict": 5})
    assert ["".join(part["content"] for part in parts if part["index"] == i) for i in (0, 1)] == single


def test_probabilities(server: Served, model: TriMode) -> None:
    body = {"prompt": PROMPT, "n_predict": 4, "n_probs": 3}
    expected = server.post(OPENAI, {"prompt": PROMPT, "max_tokens": 4, "logprobs": 3}).json()["choices"][0]["logprobs"]
    found = server.post(NATIVE, body).json()["completion_probabilities"]
    assert [entry["logprob"] for entry in found] == expected["token_logprobs"]
    assert [entry["token"] for entry in found] == expected["tokens"]
    for entry in found:
        assert bytes(entry["bytes"]) == model.detokenize([entry["id"]], special=True)
        assert entry["top_logprobs"][0]["id"] == entry["id"] and len(entry["top_logprobs"]) == 3
    after = server.post(NATIVE, body | {"post_sampling_probs": True}).json()["completion_probabilities"]
    assert all("logprob" not in entry and 0 <= entry["prob"] <= 1 for entry in after)
    assert after[0]["top_probs"][0]["id"] == found[0]["id"]
    parts = told(server, NATIVE, body)
    streamed = [entry for part in parts for entry in part["completion_probabilities"]]
    assert [entry["id"] for entry in streamed] == [entry["id"] for entry in found]
    assert not math.isclose(found[0]["logprob"], found[0]["top_logprobs"][1]["logprob"])


def test_fields_that_are_wanted(server: Served) -> None:
    paths = ["content", "timings/predicted_n", "generation_settings/n_ctx", "nothing", "content/x"]
    found = server.post(NATIVE, {"prompt": PROMPT, "n_predict": 3, "response_fields": paths}).json()
    assert found == {"content": found["content"], "timings/predicted_n": 3, "generation_settings/n_ctx": 1024}


def test_infill_sees_both_sides(server: Served) -> None:
    expected = server.post(OPENAI, {"prompt": CODE, "suffix": "\n\nprint(1)", "max_tokens": 6}).json()["choices"][0]
    body = {"input_prefix": "def get_total(price, tax):\n", "prompt": "    return ", "n_predict": 6}
    found = server.post(INFILL, body | {"input_suffix": "\n\nprint(1)"}).json()
    assert found["content"] == expected["text"] and found["generation_settings"]["mode"] == "diffusion"
    *parts, last = told(server, INFILL, body | {"input_suffix": "\n\nprint(1)"})
    assert "".join(part["content"] for part in parts) == expected["text"] and last["stop"]
    sort = {"input_prefix": "Sort these numbers: ", "n_predict": 4}
    after = {server.post(INFILL, sort | {"input_suffix": text}).json()["content"]
             for text in (" is r-i-v-e-r.", " = 5.", "\n    return total", " words.")}  # fmt: skip
    assert len(after) > 1
    open_end = {"input_prefix": CODE, "input_suffix": "\n", "response_fields": ["tokens_predicted"]}
    for n_predict in (None, -1):
        assert server.post(INFILL, open_end | {"n_predict": n_predict}).json()["tokens_predicted"] <= 128
    plain = server.post(OPENAI, {"prompt": CODE, "max_tokens": 6}).json()["choices"][0]["text"]
    assert server.post(INFILL, body | {"input_suffix": ""}).json()["content"] == plain


def test_extras_stand_in_front_as_far_as_they_fit(server: Served) -> None:
    body = {"input_prefix": CODE, "input_suffix": "\n", "n_predict": 4}
    extra = [{"filename": "long.py", "text": "a b " * 2000}, {"filename": "b.py", "text": "x = 1"}]
    assert server.post(INFILL, body | {"input_extra": extra[1:]}).json()["prompt"].startswith("<s>b.py\nx = 1\ndef get")
    assert server.post(INFILL, body | {"input_extra": extra}).json()["prompt"].startswith("<s>b.py\nx = 1\ndef get")
    assert server.post(INFILL, body | {"input_extra": extra[:1]}).json()["prompt"] == "<s>" + CODE


@pytest.mark.slow
def test_of_long_files_what_is_next_to_the_gap_is_seen(server: Served, model: TriMode) -> None:
    lines = [f"line {i} of a long file = {i * i}\n" for i in range(400)]
    body = {"input_prefix": "".join(lines), "prompt": "x = ", "input_suffix": "\n" + "".join(lines), "n_predict": 8}
    found = server.post(INFILL, body).json()
    prompt = found["prompt"].removeprefix("<s>")
    assert prompt.startswith("line ") and prompt.endswith(lines[-1] + "x = ")
    around = Around("".join(lines) + "x = ", "\n" + "".join(lines))
    before, after = fitted(model, around, 8, n_most=model.n_ctx, longest=16)
    assert before == prompt and around.after.startswith(after) and after.endswith("\n") and len(after) > 500
    tokens = [len(model.tokenize(text, add_bos=False, special=True)) for text in (before, after)]
    assert model.n_ctx - 40 < sum(tokens) + 8 < model.n_ctx and tokens[1] + 9 <= model.n_batch
    assert fitted(model, Around("a", "b"), 8, n_most=model.n_ctx, longest=16) == ("a", "b")
    error = error_of(server.post(OPENAI, {"prompt": "x", "suffix": "".join(lines), "max_tokens": 8}))
    assert error["code"] == 400, "nothing is cut where nobody asks for it"
    for text in ("x" * 20_000, "\n" * 20_000, "é→😀" * 5000):
        answer = server.post(INFILL, {"input_prefix": text, "input_suffix": text, "n_predict": 4})
        assert answer.status_code == 200 and answer.json()["tokens_predicted"] <= 4


def test_what_editors_send_is_taken(server: Served) -> None:
    fields = ["content", "timings/prompt_n", "timings/prompt_ms", "timings/predicted_n", "truncated", "tokens_cached"]
    body: dict[str, Any] = {
        "id_slot": 0, "input_prefix": "def f():\n", "input_suffix": "\n", "prompt": "    re", "n_predict": 16,
        "stop": [], "input_extra": [{"text": "x = 1\n", "time": 1, "filename": "a.py"}], "n_indent": 4, "top_k": 40,
        "top_p": 0.99, "stream": False, "samplers": ["top_k", "top_p", "infill"], "cache_prompt": True,
        "t_max_prompt_ms": 500, "t_max_predict_ms": 1000, "response_fields": fields,
    }  # fmt: skip
    assert set(server.post(INFILL, body).json()) == set(fields)
    warm = body | {"n_predict": 0, "samplers": [], "prompt": "", "response_fields": [""]}
    assert server.post(INFILL, warm).json() == {}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (NATIVE, {}, "prompt is missing"),
        (NATIVE, {"prompt": 5}, "prompt must be text"),
        (NATIVE, {"prompt": []}, "there is none"),
        (NATIVE, {"prompt": {}}, "prompt.prompt_string is missing"),
        (NATIVE, {"prompt": {"prompt_string": "x", "multimodal_data": ["x"]}}, "multimodal_data is not supported"),
        (NATIVE, {"prompt": "x", "n_predict": "5"}, "max_tokens must be a whole number"),
        (NATIVE, {"prompt": "x", "t_max_predict_ms": 5}, "t_max_predict_ms is not supported"),
        (NATIVE, {"prompt": "x", "echo": True, "n_probs": 1}, "echo is not supported"),
        (NATIVE, {"prompt": "x", "prompt_logprobs": 1}, "prompt_logprobs is not supported"),
        (NATIVE, {"prompt": "x", "stream_options": {"include_usage": True}}, "stream_options is not supported"),
        (NATIVE, {"prompt": "x", "temprature": 5}, "did you mean temperature"),
        (NATIVE, {"prompt": "x", "response_fields": "content"}, "response_fields must be a list"),
        (NATIVE, {"prompt": "x" * 100_000}, "the prompt has at least"),
        (INFILL, {"input_suffix": "x"}, "input_prefix is missing"),
        (INFILL, {"input_prefix": "x", "input_suffix": 5}, "input_suffix must be text"),
        (INFILL, {"input_prefix": "x", "input_suffix": "y", "input_extra": "x"}, "input_extra must be a list"),
        (INFILL, {"input_prefix": "x", "input_suffix": "y", "input_extra": [{}]}, "input_extra.0.text is missing"),
        (INFILL, {"input_prefix": "x", "input_suffix": "y", "mode": "ar"}, "suffix"),
        (INFILL, {"input_prefix": "x", "input_suffix": "y", "suffix": "z"}, "suffix does not go with input_suffix"),
        (INFILL, {"input_prefix": "x", "input_suffix": "y", "n_predict": 5000}, "n_batch"),
        (INFILL, {"input_prefix": "x", "input_suffix": "y", "samplers": 5}, "samplers must be a list"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_name(server: Served, path: str, body: dict[str, Any], message: str) -> None:
    error = error_of(server.post(path, body))
    assert error["code"] == 400 and message in error["message"]
