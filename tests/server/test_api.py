"""Routes of the server: results, and errors for what a client gets wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.documents import ROOT
from support.serving import Served, error_of, events, loader, served

from pytrimode import TriMode
from pytrimode.convert import convert

PROMPT = "Write a Python function called add_two"
MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
LLAMA_SERVER_TIMINGS = {
    "cache_n", "prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_n", "predicted_ms",
    "predicted_per_token_ms", "predicted_per_second", "draft_n", "draft_n_accepted",
}  # fmt: skip


# --- Completions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ar", "diffusion", "self-spec", "linear_spec"])
def test_a_chat_answer_is_what_trimode_gives(server: Served, model: TriMode, mode: str) -> None:
    expected: Any = model.create_chat_completion(MESSAGES, mode=mode, max_tokens=20, temperature=0.0)
    result = server.post(CHAT, {"messages": MESSAGES, "mode": mode, "max_tokens": 20}).json()
    assert result["object"] == "chat.completion" and result["id"].startswith("chatcmpl-")
    assert result["choices"] == expected["choices"]
    assert result["usage"]["completion_tokens"] == expected["usage"]["completion_tokens"]
    assert set(result["timings"]) == LLAMA_SERVER_TIMINGS | set(expected["timings"])
    assert result["timings"]["forward_passes"] == expected["timings"]["forward_passes"]


def test_a_completion_is_what_trimode_gives(server: Served, model: TriMode) -> None:
    expected: Any = model.create_completion(PROMPT, max_tokens=20, stop=["("], echo=True, temperature=0.0)
    for stop in ("(", ["\x00", "("]):
        result = server.post(COMPLETIONS, {"prompt": PROMPT, "max_tokens": 20, "stop": stop, "echo": True}).json()
        assert result["object"] == "text_completion" and result["model"] == "tiny-q8_0"
        assert result["choices"] == expected["choices"]
    short = server.post(COMPLETIONS, {"prompt": "a", "ignore_eos": True}).json()
    assert short["usage"]["completion_tokens"] == 16, "OpenAI's default"


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_stream_adds_up_to_the_answer(server: Served, path: str) -> None:
    body: dict[str, Any] = {"messages": MESSAGES} if path == CHAT else {"prompt": PROMPT, "echo": True}
    body |= {"max_tokens": 30, "n": 2}
    whole = server.post(path, body).json()
    with server.client.stream("POST", path, json=body | {"stream": True}) as response:
        *chunks, done = events(response)
    assert done == "[DONE]"
    texts, reasons = ["", ""], [None, None]
    for chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "") if path == CHAT else choice["text"]
        if choice["finish_reason"]:
            reasons[choice["index"]] = choice["finish_reason"]
            assert set(chunk["timings"]) == set(whole["timings"])
        assert "usage" not in chunk
    expected = [c["message"]["content"] if path == CHAT else c["text"] for c in whole["choices"]]
    assert texts == expected and all(texts)
    assert reasons == [c["finish_reason"] for c in whole["choices"]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    if path == CHAT:
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"


def test_include_usage_adds_a_chunk_without_choices(server: Served) -> None:
    body = {"messages": MESSAGES, "max_tokens": 9}
    whole = server.post(CHAT, body).json()
    streaming = body | {"stream": True, "stream_options": {"include_usage": True}}
    with server.client.stream("POST", CHAT, json=streaming) as response:
        *chunks, last, _ = events(response)
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert all(chunk["usage"] is None for chunk in chunks)


def test_several_prompts_and_answers_are_numbered_and_counted(server: Served, model: TriMode) -> None:
    prompts = ["Hello", "How are you?"]
    ids = [model.prompt_tokens(p) for p in prompts]
    sampling = {"temperature": 1.5, "seed": 7, "max_tokens": 8, "mode": "ar", "ignore_eos": True}
    result = server.post(COMPLETIONS, {"prompt": ids, "n": 2, **sampling}).json()
    assert [c["index"] for c in result["choices"]] == [0, 1, 2, 3]
    expected: list[Any] = [model.create_completion(p, **sampling | {"seed": s}) for p in prompts for s in (7, 8)]  # type: ignore[arg-type]
    assert [c["text"] for c in result["choices"]] == [e["choices"][0]["text"] for e in expected]
    assert result["choices"][0]["text"] != result["choices"][1]["text"], "the seed counts up"
    usage, timings = result["usage"], result["timings"]
    assert usage["prompt_tokens"] == sum(map(len, ids)), "a prompt counts once"
    assert usage["completion_tokens"] == sum(e["usage"]["completion_tokens"] for e in expected)
    assert timings["predicted_n"] == sum(e["timings"]["predicted_n"] for e in expected)
    assert timings["tokens_per_forward"] == pytest.approx(timings["predicted_n"] / timings["forward_passes"])
    assert server.post(COMPLETIONS, {"prompt": prompts, "n": 2, **sampling}).json()["choices"] == result["choices"]


def test_sampling_fields_reach_the_sampler(server: Served, model: TriMode) -> None:
    plain = server.post(COMPLETIONS, {"prompt": PROMPT, "max_tokens": 8}).json()["choices"][0]["text"]
    first = model.tokenize(plain, add_bos=False)[0]
    banned = {"prompt": PROMPT, "max_tokens": 8, "logit_bias": {str(first): -100}}
    other = server.post(COMPLETIONS, banned).json()["choices"][0]["text"]
    assert model.tokenize(other, add_bos=False)[0] != first
    grammar = {"prompt": PROMPT, "grammar": 'root ::= "yes" | "no"'}
    assert server.post(COMPLETIONS, grammar).json()["choices"][0]["text"] in ("yes", "no")
    options: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_tokens": 12, "top_k": 5, "min_p": 0.0}
    result = server.post(COMPLETIONS, {"prompt": PROMPT, "repeat_last_n": 8, "presence_penalty": 1.0, **options})
    expected: Any = model.create_completion(PROMPT, penalty_last_n=8, presence_penalty=1.0, **options)
    assert result.json()["choices"] == expected["choices"]


def test_block_length_and_threshold_reach_the_decoder(server: Served, model: TriMode) -> None:
    options: dict[str, Any] = {"mode": "diffusion", "max_tokens": 24, "temperature": 0.0}
    for extra in ({"block_length": 4, "threshold": 1.0}, {"threshold": 0.1}, {"steps": 2, "reveal": "leftmost"}):
        result = server.post(CHAT, {"messages": MESSAGES, **options, **extra}).json()
        expected: Any = model.create_chat_completion(MESSAGES, **options, **extra)  # type: ignore[arg-type]
        assert result["choices"] == expected["choices"]
        assert result["timings"]["forward_passes"] == expected["timings"]["forward_passes"]


# --- Templates and tokens --------------------------------------------------------------------------------------------


def test_tokenize_detokenize_and_apply_template(server: Served, model: TriMode) -> None:
    text = "Hé <|im_start|>"
    tokens = server.post("/tokenize", {"content": text}).json()["tokens"]
    assert tokens == model.tokenize(text, add_bos=False, special=True)
    assert server.post("/detokenize", {"tokens": tokens}).json() == {"content": text}
    plain = server.post("/tokenize", {"content": text, "parse_special": False, "add_special": True}).json()["tokens"]
    assert plain == model.tokenize(text)
    pieces = server.post("/tokenize", {"content": "a→", "with_pieces": True}).json()["tokens"]
    assert b"".join(bytes(p["piece"]) if isinstance(p["piece"], list) else p["piece"].encode() for p in pieces) == (
        "a→".encode()
    )
    prompt = server.post("/apply-template", {"messages": MESSAGES}).json()["prompt"]
    assert prompt == model.chat_template.render(MESSAGES)


def test_thinking_is_a_template_variable(server: Served, model: TriMode) -> None:
    thinking = model.chat_template.render(MESSAGES, enable_thinking=True)
    for extra in ({"chat_template_kwargs": {"enable_thinking": True}}, {"reasoning_effort": "high"}):
        assert server.post("/apply-template", {"messages": MESSAGES, **extra}).json()["prompt"] == thinking
    assert server.post("/apply-template", {"messages": MESSAGES, "reasoning_effort": "none"}).json()["prompt"] != (
        thinking
    )


def test_tools_go_to_a_template_that_knows_them(server: Served, checkpoint_dir: Path, tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    body = {"messages": MESSAGES, "tools": tools}
    told = server.post("/apply-template", body).json()["prompt"]
    assert '{"name": "add", "parameters": {"type": "object"}}' in told and "<tool_call>" in told
    assert server.post(CHAT, body | {"tool_choice": "none", "max_tokens": 2}).status_code == 200

    checkpoint = shutil.copytree(checkpoint_dir, tmp_path / "tools")
    template = checkpoint / "chat_template.jinja"
    template.write_text("{{ tools | tojson if tools else 'no tools' }}|" + template.read_text())
    with served(loader(convert(checkpoint, tmp_path / "tools.gguf", "q8_0").path, 512)) as knowing:
        prompt = knowing.post("/apply-template", body).json()["prompt"]
        assert prompt.startswith('[{"type": "function", "function": {"name": "add"')
        assert knowing.post("/apply-template", body | {"tool_choice": "none"}).json()["prompt"].startswith("no tools|")
        assert knowing.post(CHAT, body | {"max_tokens": 2}).status_code == 200
        assert error_of(knowing.post(CHAT, body | {"tool_choice": "required"}))["param"] == "tool_choice"


# --- The state of the server -----------------------------------------------------------------------------------------


def test_models_props_and_slots(server: Served, model: TriMode, q8_gguf: Path) -> None:
    (listed,) = server.get("/v1/models").json()["data"]
    assert listed["id"] == "tiny-q8_0" and listed["meta"]["n_vocab"] == model.n_vocab
    assert server.get("/v1/models/tiny-q8_0").json() == listed
    assert error_of(server.get("/v1/models/other"))["type"] == "not_found_error"
    props = server.get("/props").json()
    assert props["model_path"] == str(q8_gguf) and props["total_slots"] == 1
    assert props["chat_template"] == model.chat_template.source
    assert props["default_generation_settings"]["n_ctx"] == model.n_ctx
    assert props["default_generation_settings"]["params"]["mode"] == "auto"
    (slot,) = server.get("/slots").json()
    assert slot["id"] == 0 and slot["is_processing"] is False


def test_metrics_count_tokens_passes_and_drafts(server: Served) -> None:
    def read() -> dict[str, float]:
        lines = server.get("/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    before = read()
    timings = server.post(CHAT, {"messages": MESSAGES, "max_tokens": 12}).json()["timings"]
    after = read()
    for name, field in (
        ("llamacpp:prompt_tokens_total", "prompt_n"),
        ("llamacpp:tokens_predicted_total", "predicted_n"),
        ("pytrimode:forward_passes_total", "forward_passes"),
        ("llamacpp:spec_decode_num_draft_tokens_total", "draft_n"),
        ("llamacpp:spec_decode_num_accepted_tokens_total", "draft_n_accepted"),
    ):
        assert after[name] - before.get(name, 0) == timings[field], name
    finished = 'pytrimode:answers_total{outcome="finished"}'
    assert after[finished] == before[finished] + 1
    assert after["pytrimode:tokens_per_forward"] == pytest.approx(
        after["llamacpp:tokens_predicted_total"] / after["pytrimode:forward_passes_total"]
    )
    assert after["llamacpp:requests_processing"] == after["llamacpp:requests_deferred"] == 0
    grown = {
        name: after[f"pytrimode:{name}_count"] - before[f"pytrimode:{name}_count"]
        for name in ("time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds")
    }
    assert grown.pop("inter_token_latency_seconds") == pytest.approx(timings["predicted_n"] - 1, abs=8)
    assert set(grown.values()) == {1}


def test_the_dashboard_asks_for_metrics_that_there_are(server: Served) -> None:
    server.post(CHAT, {"messages": MESSAGES, "max_tokens": 4})
    names = {line.split("{")[0].split(" ")[0] for line in server.get("/metrics").text.splitlines() if line[0] != "#"}
    dashboard = json.loads((ROOT / "examples" / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"(?:llamacpp|pytrimode):\w+", target["expr"])
    }
    assert asked <= names and len(asked) > 10


# --- Errors ----------------------------------------------------------------------------------------------------------

BAD_REQUESTS: list[tuple[str, dict[str, Any], str, str | None]] = [
    (CHAT, {}, "messages is missing", "messages"),
    (CHAT, {"messages": []}, "messages must have at least 1 item", "messages"),
    (CHAT, {"messages": [{"content": "x"}]}, "messages.0.role is missing", "messages"),
    (CHAT, {"messages": [{"role": "wizard", "content": "x"}]}, "Unknown role wizard", None),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only text is", None),
    (CHAT, {"messages": MESSAGES, "top_logprobs": 2}, "top_logprobs needs logprobs", "top_logprobs"),
    (CHAT, {"messages": MESSAGES, "functions": [{}]}, "functions is not supported", "functions"),
    (CHAT, {"messages": MESSAGES, "chat_template_kwargs": {"messages": []}}, "messages cannot be set",
     "chat_template_kwargs"),
    (CHAT, {"messages": MESSAGES, "response_format": {"type": "xml"}}, "response_format.type must be 'text', ",
     "response_format"),
    (CHAT, {"messages": MESSAGES, "response_format": {"type": "json_schema"}}, "has no schema", "response_format"),
    (CHAT, {"messages": MESSAGES, "response_format": {"type": "json_schema", "json_schema": {"schema": {
        "$ref": "https://example.com/schema.json"}}}}, "is not present in a registry", "response_format"),
    (COMPLETIONS, {}, "prompt is missing", "prompt"),
    (COMPLETIONS, {"prompt": []}, "there is none", "prompt"),
    (COMPLETIONS, {"prompt": [99999]}, "not in the vocabulary", "prompt"),
    (COMPLETIONS, {"prompt": [[1], [-1]]}, "not in the vocabulary", "prompt"),
    (COMPLETIONS, {"prompt": "a", "logprobs": -1}, "logprobs", "logprobs"),
    (COMPLETIONS, {"prompt": "a", "best_of": 2}, "best_of is not supported", "best_of"),
    (COMPLETIONS, {"prompt": "a", "temperature": "1"}, "temperature must be a number", "temperature"),
    (COMPLETIONS, {"prompt": "a", "temperature": -1}, "temperature -1", "temperature"),
    (COMPLETIONS, {"prompt": "a", "temperature": 1e308}, "temperature", "temperature"),
    (COMPLETIONS, {"prompt": "a", "top_p": 2}, "top_p 2", "top_p"),
    (COMPLETIONS, {"prompt": "a", "top_k": 1 << 40}, "top_k", "top_k"),
    (COMPLETIONS, {"prompt": "a", "n": 0}, "n must be 1 or more", "n"),
    (COMPLETIONS, {"prompt": "a", "n": 1000}, "at most 16", "n"),
    (COMPLETIONS, {"prompt": "a", "stop": ["x"] * 17}, "stop", "stop"),
    (COMPLETIONS, {"prompt": "a", "mode": "quick"}, "unknown mode 'quick'", None),
    (COMPLETIONS, {"prompt": "a", "block_length": 100000}, "block_length 100000", "block_length"),
    (COMPLETIONS, {"prompt": "a", "threshold": 3}, "threshold 3", "threshold"),
    (COMPLETIONS, {"prompt": "a", "sampler": "best"}, "unknown sampler", None),
    (COMPLETIONS, {"prompt": "a", "logit_bias": {"x": 1}}, "logit_bias", "logit_bias"),
    (COMPLETIONS, {"prompt": "a", "logit_bias": {"99999": 1}}, "99999", "logit_bias"),
    (COMPLETIONS, {"prompt": "a", "grammar": "root ::= ["}, "grammar: cannot be parsed", "grammar"),
    (COMPLETIONS, {"prompt": "a", "grammar": "x" * 70000}, "at most 65536", "grammar"),
    (COMPLETIONS, {"prompt": "<think>", "grammar": "root ::= [a-z ]+", "max_thinking_tokens": 0},
     "grammar: it does not allow the token", "grammar"),
    (CHAT, {"messages": MESSAGES, "response_format": {"type": "json_object", "schema": {"uniqueItems": True}}},
     "uniqueItems", "response_format"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "must be a string", None),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": {"a": 1}}]}]}, "must be a string", None),
    (COMPLETIONS, {"prompt": "a", "grammar": 'root ::= "a"', "response_format": {"type": "json_object"}}, "not both",
     "grammar"),
    ("/tokenize", {}, "content is missing", "content"),
    ("/tokenize", {"content": "a" * 70000}, "at most 65536", None),
    ("/detokenize", {"tokens": [99999]}, "not in the vocabulary", None),
    ("/detokenize", {"tokens": ["a"]}, "must be a whole number", "tokens"),
    ("/apply-template", {"messages": [{"role": "wizard", "content": "x"}]}, "Unknown role wizard", None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "message", "param"), BAD_REQUESTS)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_requests_are_explained(
    server: Served, path: str, body: dict[str, Any], message: str, param: str | None, stream: bool
) -> None:
    response = server.post(path, body | {"stream": True} if stream else body)
    error = error_of(response)
    assert response.status_code == 400 and error["type"] == "invalid_request_error"
    assert message in error["message"]
    assert error["param"] == param


def test_what_is_no_json_is_explained(server: Served) -> None:
    json_type = {"Content-Type": "application/json"}
    for content in (b"{", b"\xff", b"[" * 100_000, b'{"prompt": NaN}'):
        error = error_of(server.client.post(COMPLETIONS, content=content, headers=json_type))
        assert error["code"] == 400
    assert error_of(server.client.post(COMPLETIONS, content=b'{"prompt": "a"}'))["code"] == 415
    surrogate = server.client.post("/tokenize", content=rb'{"content": "\ud800"}', headers=json_type)
    assert error_of(surrogate)["code"] == 400
    message = rb'{"messages": [{"role": "user", "content": "x", "name": "\ud800"}], "tools": []}'
    assert server.client.post("/apply-template", content=message, headers=json_type).status_code == 200


def test_unknown_routes_and_methods(server: Served) -> None:
    error = error_of(server.get("/v1/nothing"))
    assert error["type"] == "not_found_error" and "/v1/chat/completions" in error["message"]
    assert error_of(server.post("/v1/embeddings", {"input": "a"}))["code"] == 501
    for path, body in ((CHAT, {"messages": MESSAGES}), (COMPLETIONS, {"prompt": PROMPT})):
        short, long = (server.post(p, body | {"max_tokens": 4}).json()["choices"] for p in (path[3:], path))
        assert short == long
    assert server.get("/models").json() == server.get("/v1/models").json()
    assert error_of(server.get(CHAT))["code"] == 405
    for path in ("/docs", "/redoc"):
        assert server.get(path).status_code == 404, "these pages load scripts from the network"


def test_a_prompt_that_does_not_fit_says_how_long_it_is(server: Served, model: TriMode) -> None:
    text = "word " * model.n_ctx
    error = error_of(server.post(COMPLETIONS, {"prompt": text}))
    assert error["type"] == "exceed_context_size_error" and error["n_ctx"] == model.n_ctx
    assert error["n_prompt_tokens"] == len(model.prompt_tokens(text))
    exact = model.prompt_tokens(text)[: model.n_ctx]
    assert error_of(server.post(COMPLETIONS, {"prompt": exact}))["n_prompt_tokens"] == model.n_ctx
    result = server.post(COMPLETIONS, {"prompt": exact[:-1], "ignore_eos": True}).json()
    assert result["usage"]["completion_tokens"] == 1


def test_a_grammar_that_allows_nothing_fails_alone(q8_gguf: Path) -> None:
    with served(loader(q8_gguf, 1024)) as running:
        refused = error_of(running.post(COMPLETIONS, {"prompt": "a", "grammar": 'root ::= "\\x00"'}))
        assert refused["code"] == 400 and "allows no text" in refused["message"]
        assert running.post(COMPLETIONS, {"prompt": "word " * 200, "max_tokens": 2}).status_code == 200


def test_head_on_every_route_with_get(server: Served) -> None:
    for path in ("/health", "/v1/models", "/props", "/slots", "/", "/metrics"):
        answer = server.client.head(path)
        assert answer.status_code == 200 and not answer.content
        assert int(answer.headers["content-length"]) > 0
    assert server.client.head("/nothing").status_code == 404
    assert server.client.head(CHAT).status_code == 405
