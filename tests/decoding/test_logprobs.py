"""Log-probabilities: those of the causal rows in every mode, in the shapes of OpenAI and llama-cpp-python."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from pytrimode import MODES, TriMode

PROMPT = "<|im_start|>user\nSort these numbers: 52, 31, 97<|im_end|>\n<|im_start|>assistant\n<think></think>"
QUESTION = [{"role": "user", "content": "Sort these numbers: 52, 31, 97"}]


def log_softmax(row: np.ndarray, mask: int) -> np.ndarray:
    row = row.astype(np.float64)
    row[mask] = -math.inf
    return row - row.max() - math.log(np.exp(row - row.max()).sum())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logprobs_are_those_of_causal_rows(model: TriMode, mode: str, temperature: float) -> None:
    options: dict[str, Any] = {"mode": mode, "temperature": temperature, "seed": 3, "block_length": 8}
    result: Any = model.create_completion(PROMPT, max_tokens=40, logprobs=3, **options)
    plain: Any = model.create_completion(PROMPT, max_tokens=40, **options)
    choice = result["choices"][0]
    assert choice["text"] == plain["choices"][0]["text"]
    assert plain["choices"][0]["logprobs"] is None
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert len(logprobs["token_logprobs"]) == result["usage"]["completion_tokens"]
    prompt = model.prompt_tokens(PROMPT)
    tokens = model.tokenize(choice["text"], add_bos=False)
    if len(tokens) != len(logprobs["tokens"]):
        pytest.fail("the test needs a text that tokenizes as it was made")
    rows = model.logits([*prompt, *tokens])
    for i, token in enumerate(tokens):
        expected = log_softmax(rows[len(prompt) + i - 1], model.mask_token_id)
        assert logprobs["token_logprobs"][i] == pytest.approx(expected[token], abs=5e-3)
        best = np.argsort(-expected)[:3]
        for rank, (text, value) in enumerate(logprobs["top_logprobs"][i].items()):
            assert value == pytest.approx(expected[best[rank]], abs=5e-3), text
        assert logprobs["text_offset"][i] == len("".join(logprobs["tokens"][:i]))


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1.0, "seed": 3, "sampler": "coupled"}])
@pytest.mark.parametrize("post_sampling_probs", [False, True])
def test_self_spec_reports_what_ar_does(model: TriMode, options: dict[str, Any], post_sampling_probs: bool) -> None:
    options["post_sampling_probs"] = post_sampling_probs
    ar, spec = (
        model.create_completion(PROMPT, mode=mode, max_tokens=40, logprobs=5, **options) for mode in ("ar", "self-spec")
    )
    assert ar["choices"][0]["logprobs"] == spec["choices"][0]["logprobs"]  # type: ignore[index]


def test_ar_reports_what_llama_cpp_python_does(q8_gguf: Path, model: TriMode) -> None:
    stock = llama_cpp.Llama(str(q8_gguf), n_ctx=256, verbose=False, logits_all=True)
    options = {"max_tokens": 20, "temperature": 0.0, "logprobs": 4}
    theirs: Any = stock.create_completion(PROMPT, **options)
    ours: Any = model.create_completion(PROMPT, mode="ar", **options)
    a, b = ours["choices"][0]["logprobs"], theirs["choices"][0]["logprobs"]
    assert a["tokens"] == b["tokens"]
    assert a["token_logprobs"] == pytest.approx(b["token_logprobs"], abs=1e-2)
    for x, y in zip(a["top_logprobs"], b["top_logprobs"], strict=True):
        likely = {token for token, value in y.items() if value > -8}
        assert likely <= set(x)


@pytest.mark.parametrize("mode", MODES)
def test_chat_logprobs_whole_and_streamed(model: TriMode, mode: str) -> None:
    options: dict[str, Any] = {"mode": mode, "max_tokens": 30, "temperature": 0.0, "logprobs": True, "top_logprobs": 2}
    result: Any = model.create_chat_completion(QUESTION, **options)
    content = result["choices"][0]["logprobs"]["content"]
    assert bytes(b for t in content for b in t["bytes"]).decode() == result["choices"][0]["message"]["content"]
    assert all(len(t["top_logprobs"]) == 2 and t["logprob"] <= 0 for t in content)
    chunks: Any = list(model.create_chat_completion(QUESTION, stream=True, **options))
    streamed = [t for c in chunks if c["choices"][0]["logprobs"] for t in c["choices"][0]["logprobs"]["content"]]
    assert streamed == content
    alone: Any = model.create_chat_completion(QUESTION, **{**options, "top_logprobs": None})
    assert all(t["top_logprobs"] == [] for t in alone["choices"][0]["logprobs"]["content"])


def test_post_sampling_probs_are_those_of_the_sampler_chain(model: TriMode) -> None:
    options: dict[str, Any] = {"max_tokens": 20, "logprobs": 50, "post_sampling_probs": True}
    greedy: Any = model.create_completion(PROMPT, temperature=0.0, **options)
    assert set(greedy["choices"][0]["logprobs"]["token_logprobs"]) == {0.0}
    sampled: Any = model.create_completion(PROMPT, temperature=1.5, top_k=4, top_p=1.0, min_p=0.0, seed=1, **options)
    raw: Any = model.create_completion(
        PROMPT, temperature=1.5, top_k=4, top_p=1.0, min_p=0.0, seed=1, max_tokens=20, logprobs=4
    )
    after, before = (r["choices"][0]["logprobs"]["top_logprobs"] for r in (sampled, raw))
    for x, y in zip(after, before, strict=True):
        assert list(x) == list(y)
        weights = np.exp(np.array(list(y.values())) / 1.5)
        assert np.exp(list(x.values())) == pytest.approx(weights / weights.sum(), abs=1e-4)


def test_impossible_logprobs(model: TriMode) -> None:
    with pytest.raises(ValueError, match="logprobs -1"):
        model.create_completion(PROMPT, logprobs=-1)
    with pytest.raises(ValueError, match="top_logprobs needs logprobs"):
        model.create_chat_completion(QUESTION, top_logprobs=2)
