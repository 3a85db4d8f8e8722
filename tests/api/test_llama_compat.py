"""`pytrimode.llama_compat.Llama` and `llama_cpp.Llama`: the same snippets run against both classes.

Both compute Q8_0 with kernels of their own, so texts are compared where the model is sure; elsewhere their shape is.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import llama_cpp
import numpy as np
import pytest

from pytrimode import llama_compat
from pytrimode.llama_compat import Llama

SORT = "<|im_start|>user\nSort these numbers: 5, 3, 9, 1<|im_end|>\n<|im_start|>assistant\n<think></think>"
"""Prompts to which the shipped model is sure of its answer."""
CODE = "<|im_start|>user\nWrite a Python function called add_two<|im_end|>\n<|im_start|>assistant\n<think></think>"
CHAT = [{"role": "user", "content": "Sort these numbers: 5, 3, 9, 1"}]
CODE_CHAT = [{"role": "user", "content": "Write a Python function called add_two"}]
YES_OR_NO = 'root ::= "yes" | "no"'
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "enum": [7]}}, "required": ["n"]}
OURS = {"timings", "usage", "finish_details", "forward_passes", "prompt_tokens_details", "reasoning_content",
        "completion_tokens_details"}  # fmt: skip
"""Keys that only our results have; `usage` is in theirs too, but not in a stream."""
N_CTX = 512


@pytest.fixture(scope="module")
def ours(q8_gguf: Path) -> Iterator[Llama]:
    with contextlib.closing(Llama(str(q8_gguf), n_ctx=N_CTX, n_threads=1, logits_all=True)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def theirs(q8_gguf: Path) -> Iterator[Any]:
    loaded = llama_cpp.Llama(str(q8_gguf), n_ctx=N_CTX, n_threads=1, logits_all=True, verbose=False)
    with contextlib.closing(loaded):
        yield loaded


def text(result: Any) -> Any:
    """The text of a completion or a chat, streamed or not."""
    if not isinstance(result, dict):
        return "".join(text(chunk) for chunk in result)
    choice = result["choices"][0]
    if "text" in choice:
        return choice["text"]
    return choice.get("message", choice.get("delta", {})).get("content") or ""


def reason(result: Any) -> Any:
    last = result if isinstance(result, dict) else list(result)[-1]
    return last["choices"][0]["finish_reason"]


def shape(value: Any) -> Any:
    """Keys and types, without what only ours has."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items() if key not in OURS}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return float if isinstance(value, np.floating) else type(value)


def stop_after(n: int) -> Callable[[Any, Any], bool]:
    return lambda ids, logits: len(ids) >= n


def sampled(llm: Any, temp: float = 0.0) -> list[int]:
    llm.reset()
    llm.eval(llm.tokenize(SORT.encode(), True, True))
    found = []
    for _ in range(4):
        found.append(llm.sample(temp=temp))
        llm.eval(found[-1:])
    return found


def generated(llm: Any, **options: Any) -> list[int]:
    found = []
    for token in llm.generate(llm.tokenize(SORT.encode(), True, True), temp=0.0, **options):
        if token == llm.token_eos() or len(found) == 12:
            break
        found.append(token)
    return found


def primed(llm: Any) -> Any:
    """A generator that has given its first token."""
    tokens = llm.generate(llm.tokenize(SORT.encode(), True, True), temp=0.0)
    next(tokens)
    return tokens


def grammar(llm: Any) -> Any:
    return llama_compat.LlamaGrammar if isinstance(llm, Llama) else llama_cpp.LlamaGrammar


def module(llm: Any) -> Any:
    return llama_compat if isinstance(llm, Llama) else llama_cpp


def limit(llm: Any, n: int) -> Any:
    prompt = len(llm.tokenize(SORT.encode(), True, True))
    return module(llm).StoppingCriteriaList([stop_after(prompt + n)])


def first_logprobs(result: Any) -> tuple[list[str], list[int]]:
    logprobs = result["choices"][0]["logprobs"]
    return logprobs["tokens"], [round(p) for p in logprobs["token_logprobs"] if p is not None]


def restored(llm: Any) -> tuple[str, int]:
    first = llm(SORT, temperature=0, max_tokens=8)
    state = llm.save_state()
    llm("Something else", temperature=0, max_tokens=4)
    llm.load_state(state)
    again = llm(SORT, temperature=0, max_tokens=8)
    return text(again), text(first) == text(again)


SAME: dict[str, Callable[[Any], Any]] = {
    "n_ctx": lambda llm: llm.n_ctx(),
    "n_vocab": lambda llm: llm.n_vocab(),
    "n_embd": lambda llm: llm.n_embd(),
    "token_bos": lambda llm: llm.token_bos(),
    "token_eos": lambda llm: llm.token_eos(),
    "token_nl": lambda llm: llm.token_nl(),
    "metadata": lambda llm: llm.metadata["general.architecture"],
    "model_path": lambda llm: llm.model_path,
    "tokenize": lambda llm: llm.tokenize(b"Hello, world"),
    "tokenize without bos": lambda llm: llm.tokenize(b"Hello, world", add_bos=False),
    "tokenize by position": lambda llm: llm.tokenize(b"<|im_start|>user", False, True),
    "tokenize special text": lambda llm: llm.tokenize(b"<|im_start|>", add_bos=False, special=False),
    "tokenize nothing": lambda llm: llm.tokenize(b""),
    "tokenize UTF-8": lambda llm: llm.tokenize("Grüße, 世界 🎉".encode()),
    "detokenize": lambda llm: llm.detokenize(llm.tokenize("Grüße, 世界".encode(), add_bos=False)),
    "detokenize after bos": lambda llm: llm.detokenize(llm.tokenize(b" a b")),
    "detokenize special": lambda llm: llm.detokenize(llm.tokenize(b"<|im_start|>a", False, True), special=True),
    "detokenize with previous": lambda llm: llm.detokenize(llm.tokenize(b"b", False), [5]),
    "tokenizer": lambda llm: llm.tokenizer().encode("<|im_start|>a b"),
    "tokenizer decodes": lambda llm: llm.tokenizer().decode(llm.tokenizer().encode("a b")),
    "tokenizer of bytes": lambda llm: llm.tokenizer().tokenize(b"a b", False, False),
    "longest_token_prefix": lambda llm: llm.longest_token_prefix([1, 2, 3], [1, 2, 4]),
    "logits_to_logprobs": lambda llm: llm.logits_to_logprobs(np.array([1, 2, 3], np.single)).round(4).tolist(),
    "call": lambda llm: text(llm(SORT, temperature=0)),
    "create_completion": lambda llm: text(llm.create_completion(SORT, temperature=0.0, max_tokens=24)),
    "finish reason stop": lambda llm: reason(llm(SORT, temperature=0, max_tokens=64)),
    "finish reason length": lambda llm: reason(llm(CODE, temperature=0, max_tokens=3)),
    "positions": lambda llm: text(llm(SORT, None, 9, 0.0, 0.9, 0.1, 1.0, None, True, ["35"])),
    "16 tokens": lambda llm: llm(CODE, temperature=0)["usage"]["completion_tokens"],
    "usage": lambda llm: {k: llm(SORT, temperature=0, max_tokens=5)["usage"][k] for k in
                          ("prompt_tokens", "completion_tokens", "total_tokens")},
    "to the end with -1": lambda llm: reason(llm(SORT, temperature=0, max_tokens=-1)),
    "to the end with 0": lambda llm: text(llm(SORT, temperature=0, max_tokens=0)),
    "to the end with None": lambda llm: text(llm(SORT, temperature=0, max_tokens=None)),
    "token ids": lambda llm: text(llm(llm.tokenize(SORT.encode(), True, True), temperature=0)),
    "code": lambda llm: text(llm(CODE, temperature=0, max_tokens=12)),
    "stop": lambda llm: text(llm(SORT, temperature=0, max_tokens=40, stop="35")),
    "stop list": lambda llm: text(llm(SORT, temperature=0, max_tokens=40, stop=["x", "5"])),
    "stop reason": lambda llm: reason(llm(SORT, temperature=0, max_tokens=40, stop=["5"])),
    "echo": lambda llm: text(llm(SORT, temperature=0, max_tokens=4, echo=True)),
    "stream": lambda llm: text(llm(SORT, temperature=0, max_tokens=30, stream=True)),
    "stream reason": lambda llm: reason(llm(SORT, temperature=0, max_tokens=60, stream=True)),
    "stream stop": lambda llm: text(llm(SORT, temperature=0, stop=["35"], max_tokens=40, stream=True)),
    "top_k 1": lambda llm: text(llm(SORT, temperature=1.0, top_k=1, max_tokens=10)),
    "model": lambda llm: llm(SORT, max_tokens=1, model="mine")["model"],
    "model in a stream": lambda llm: {c["model"] for c in llm(SORT, max_tokens=2, model="mine", stream=True)},
    "no model": lambda llm: llm(SORT, max_tokens=1)["model"],
    "logit_bias": lambda llm: text(llm(SORT, temperature=0, max_tokens=3,
                                       logit_bias={llm.tokenize(b"Q", False)[0]: 100.0})),
    "grammar": lambda llm: text(llm(SORT, temperature=0, grammar=grammar(llm).from_string(YES_OR_NO))),
    "grammar of a schema": lambda llm: json.loads(
        text(llm(SORT, temperature=0, max_tokens=40, grammar=grammar(llm).from_json_schema(json.dumps(SCHEMA))))
    ),
    "logprobs": lambda llm: first_logprobs(llm(SORT, temperature=0, max_tokens=5, logprobs=2)),
    "stopping_criteria": lambda llm: text(llm(SORT, temperature=0, max_tokens=30, stopping_criteria=limit(llm, 5))),
    "stopping_criteria reason": lambda llm: reason(
        llm(SORT, temperature=0, max_tokens=30, stopping_criteria=limit(llm, 5))
    ),
    "stopping_criteria stream": lambda llm: text(
        llm(SORT, temperature=0, max_tokens=30, stopping_criteria=limit(llm, 4), stream=True)
    ),
    "stopping_criteria unmet": lambda llm: text(
        llm(SORT, temperature=0, max_tokens=30, stopping_criteria=limit(llm, 99))
    ),
    "no logits_processor": lambda llm: text(
        llm(SORT, temperature=0, logits_processor=module(llm).LogitsProcessorList())
    ),
    "eval and sample": sampled,
    "n_tokens": lambda llm: (llm.reset(), llm.eval([1, 5, 6]), llm.n_tokens)[-1],
    "eval_tokens": lambda llm: (llm.reset(), llm.eval([1, 5, 6]), list(llm.eval_tokens))[-1],
    "eval_logits": lambda llm: (
        llm.reset(), llm.eval(llm.tokenize(SORT.encode(), True, True)), int(np.argmax(llm.eval_logits[-1])),
    )[-1],
    "generate": generated,
    "generate with criteria": lambda llm: generated(llm, stopping_criteria=limit(llm, 3)),
    "input_ids": lambda llm: (llm.reset(), llm.eval([1, 5, 6]), llm.input_ids[:3].tolist())[-1],
    "threads and batch": lambda llm: (llm.n_threads, llm.n_batch),
    "reset": lambda llm: (llm.eval([1, 5]), llm.reset(), llm.n_tokens)[-1],
    "set_seed": lambda llm: llm.set_seed(7),
    "set_cache None": lambda llm: llm.set_cache(None),
    "state": restored,
    "seed": lambda llm: text(llm(CODE, temperature=1.5, seed=3)) == text(llm(CODE, temperature=1.5, seed=3)),
    "chat": lambda llm: text(llm.create_chat_completion(CHAT, temperature=0)),
    "chat reason": lambda llm: reason(llm.create_chat_completion(CHAT, temperature=0)),
    "chat length": lambda llm: reason(llm.create_chat_completion(CHAT, temperature=0, max_tokens=2)),
    "chat stop": lambda llm: text(llm.create_chat_completion(CHAT, temperature=0, stop=["5"])),
    "chat stream": lambda llm: text(llm.create_chat_completion(CHAT, temperature=0, stream=True)),
    "chat role": lambda llm: next(iter(llm.create_chat_completion(CHAT, stream=True)))["choices"][0]["delta"]["role"],
    "chat with system": lambda llm: llm.create_chat_completion(
        [{"role": "system", "content": "Be brief."}, *CHAT], temperature=0, max_tokens=1)["usage"]["prompt_tokens"],
    "chat usage": lambda llm: llm.create_chat_completion(CHAT, max_tokens=1)["usage"]["prompt_tokens"],
    "chat grammar": lambda llm: text(
        llm.create_chat_completion(CHAT, temperature=0, grammar=grammar(llm).from_string(YES_OR_NO))
    ),
    "chat schema": lambda llm: json.loads(text(llm.create_chat_completion(
        CHAT, temperature=0, response_format={"type": "json_object", "schema": SCHEMA}))),
    "chat in openai's objects": lambda llm: llm.create_chat_completion_openai_v1(
        CHAT, temperature=0).choices[0].message.content,
    "chat chunks in openai's objects": lambda llm: "".join(c.choices[0].delta.content or "" for c in
        llm.create_chat_completion_openai_v1(CHAT, temperature=0, stream=True)),
}  # fmt: skip

ALIKE: dict[str, Callable[[Any], Any]] = {
    "completion": lambda llm: llm("a", max_tokens=2),
    "penalties": lambda llm: llm(
        "a", max_tokens=4, frequency_penalty=0.5, presence_penalty=0.5, repeat_penalty=1.2, seed=1
    ),
    "logprobs": lambda llm: llm(SORT, max_tokens=2, logprobs=1, temperature=0)["choices"][0],
    "chunk": lambda llm: next(iter(llm(SORT, max_tokens=2, stream=True))),
    "last chunk": lambda llm: list(llm(SORT, max_tokens=2, stream=True))[-1],
    "chat": lambda llm: llm.create_chat_completion(CHAT, max_tokens=2),
    "chat chunk": lambda llm: next(iter(llm.create_chat_completion(CHAT, max_tokens=2, stream=True))),
    "last chat chunk": lambda llm: list(llm.create_chat_completion(CHAT, max_tokens=2, stream=True))[-1],
}

ERRORS: dict[str, Callable[[Any], Any]] = {
    "too long": lambda llm: llm([5] * (N_CTX + 1)),
    "too long chat": lambda llm: llm.create_chat_completion([{"role": "user", "content": "a b " * N_CTX}]),
    "unknown argument": lambda llm: llm("a", nonsense=1),
    "no prompt": lambda llm: llm(),
}


@pytest.mark.slow
@pytest.mark.parametrize("snippet", SAME)
def test_both_classes_give_the_same(ours: Llama, theirs: Any, snippet: str) -> None:
    assert SAME[snippet](ours) == SAME[snippet](theirs)


@pytest.mark.parametrize("snippet", ALIKE)
def test_results_have_the_same_shape(ours: Llama, theirs: Any, snippet: str) -> None:
    assert shape(ALIKE[snippet](ours)) == shape(ALIKE[snippet](theirs))


@pytest.mark.parametrize("snippet", ERRORS)
def test_both_classes_raise_the_same(ours: Llama, theirs: Any, snippet: str) -> None:
    with pytest.raises((ValueError, TypeError)) as raised:
        ERRORS[snippet](theirs)
    with pytest.raises(type(raised.value)):
        ERRORS[snippet](ours)


@pytest.mark.parametrize(
    "method", [n for n, m in inspect.getmembers(llama_cpp.Llama, inspect.isroutine) if not n.startswith("_")]
)
def test_every_method_is_there_with_the_same_parameters_in_the_same_order(method: str) -> None:
    parameters = [
        [p.name for p in inspect.signature(getattr(kind, method)).parameters.values() if p.kind is not p.VAR_KEYWORD]
        for kind in (Llama, llama_cpp.Llama)
    ]
    assert method == "embed" or parameters[0] == parameters[1]


def test_the_constructor_takes_what_theirs_takes_with_the_same_defaults() -> None:
    mine, stock = (inspect.signature(kind).parameters for kind in (Llama, llama_cpp.Llama))
    named = [name for name in mine if name not in ("mode", "options")]
    assert named == [name for name in stock if name != "kwargs"]
    assert {n for n in named if mine[n].default != stock[n].default} == {"flash_attn", "verbose"}


REFUSED = {
    "vocab_only": True, "use_mlock": True, "kv_overrides": {"a": 1}, "rope_scaling_type": 2, "pooling_type": 1,
    "attention_type": 1, "rope_freq_base": 1e4, "rope_freq_scale": 0.5, "yarn_ext_factor": 1.0, "yarn_attn_factor": 2.0,
    "yarn_beta_fast": 1.0, "yarn_beta_slow": 2.0, "yarn_orig_ctx": 99, "embedding": True, "offload_kqv": False,
    "op_offload": False, "swa_full": True, "lora_base": "x", "numa": True,
    "chat_format": "chatml", "chat_handler": print, "draft_model": print, "tokenizer": print, "spm_infill": True,
    "split_mode": 2, "type_k": 999, "type_v": 10, "mode": "nonsense",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_by_name(q8_gguf: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Llama(str(q8_gguf), n_ctx=64, **{name: REFUSED[name]})


def test_the_constructor_keeps_what_it_is_given(q8_gguf: Path) -> None:
    with contextlib.closing(
        Llama(q8_gguf, n_ctx=0, n_threads=1, type_k=8, type_v=1, seed=5, mode="ar", last_n_tokens_size=3, n_batch=4096)
    ) as llm:
        assert llm.n_ctx() == llm.trimode.n_ctx_train
        assert llm.trimode.origin["type_k"] == "q8_0" and llm.trimode.origin["type_v"] == "f16"
        answer = llm(SORT, temperature=0, max_tokens=8)
        assert answer["timings"]["draft_n"] == 0
        assert llm(SORT, temperature=0, max_tokens=8, mode="self-spec", block_length=4)["timings"]["draft_n"] > 0


def drawn(llm: Any) -> list[Any]:
    """What a seed gives call by call."""
    llm.set_seed(5)
    ids = llm.tokenize(CODE.encode(), True, True)
    texts = [text(llm(CODE, temperature=1.5)) for _ in range(4)]
    texts += [text(llm.create_chat_completion(CODE_CHAT, temperature=1.5, max_tokens=12)) for _ in range(3)]
    return [*texts, list(itertools.islice(llm.generate(ids, temp=2.0), 9)), sampled(llm, 2.0)]


def test_a_seed_gives_other_texts_call_by_call_and_the_same_in_each_program(ours: Llama, theirs: Any) -> None:
    for llm in (ours, theirs):
        first = drawn(llm)
        assert first == drawn(llm)
        assert len(set(first[:4])) > 1 and len(set(first[4:7])) > 1
    again = [text(ours(CODE, temperature=1.5, seed=9)), text(ours(CODE, temperature=1.5))]
    assert again == [text(ours(CODE, temperature=1.5, seed=9)), text(ours(CODE, temperature=1.5))]
    ours.set_seed(-1)
    assert len({text(ours(CODE, temperature=2.0)) for _ in range(4)}) > 1


FREE = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 3}
"""A sampler that cuts nothing off."""


@pytest.mark.parametrize(
    "given",
    [{"repeat_penalty": 3.0}, {"frequency_penalty": 2.0}, {"presence_penalty": 3.0}, {"top_k": 1}, {"top_p": 0.01},
     {"min_p": 0.99}, {"typical_p": 0.01}, {"logit_bias": {148: 50.0}}, {"seed": 4}],
    ids=str,
)  # fmt: skip
def test_options_of_sampling_mean_what_they_mean_to_trimode(ours: Llama, given: dict[str, Any]) -> None:
    free, asked = (
        {**FREE, "max_tokens": 24, "temperature": 1.5},
        {**FREE, "max_tokens": 24, "temperature": 1.5, **given},
    )
    answers = [text(ours(CODE, **options)) for options in (free, asked)]
    assert answers[0] != answers[1] == text(ours.trimode(CODE, **asked))
    chats = [text(ours.create_chat_completion(CODE_CHAT, **options)) for options in (free, asked)]
    assert chats[0] != chats[1] == text(ours.trimode.create_chat_completion(CODE_CHAT, **asked))
    if not {"logit_bias", "seed"} & given.keys():
        ids = ours.tokenize(CODE.encode(), True, True)
        bare = {name: value for name, value in {**FREE, **given}.items() if name != "seed"}
        tokens = list(itertools.islice(ours.generate(ids, temp=1.5, **bare, seed=3), 24))
        assert tokens == list(ours.trimode.generate(ids, temperature=1.5, **bare, seed=3, max_tokens=24))


def test_penalties_look_back_as_far_as_the_constructor_says(ours: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    options: Any = {"repeat_penalty": 3.0, "seed": 3}
    limits: Any = {"max_tokens": 24, **options, "temperature": 1.5}
    ids = ours.tokenize(CODE.encode(), True, True)

    def answers() -> list[Any]:
        tokens = list(itertools.islice(ours.generate(ids, temp=1.5, **options), 24))
        return [text(ours(CODE, **limits)), text(ours.create_chat_completion(CODE_CHAT, **limits)), tokens]

    far = answers()
    monkeypatch.setattr(ours, "last_n_tokens_size", 1)
    assert all(near != before for near, before in zip(answers(), far, strict=True))


def test_a_pickled_model_loads_its_file_again(q8_gguf: Path) -> None:
    with contextlib.closing(Llama(str(q8_gguf), n_ctx=128, n_threads=1, mode="ar", n_parallel=2)) as llm:
        data = pickle.dumps(llm)
    with contextlib.closing(pickle.loads(data)) as again:
        assert again.n_ctx() == 128 and again.trimode.n_parallel == 2
        assert again(SORT, temperature=0)["timings"]["draft_n"] == 0


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.gguf"):
        Llama(str(tmp_path / "no.gguf"), n_ctx=0)
    with pytest.raises(TypeError, match="nonsense"):
        Llama(str(tmp_path / "no.gguf"), nonsense=1)


MISSING: dict[str, Callable[[Llama], Any]] = {
    "create_embedding": lambda llm: llm.create_embedding("a"),
    "embed": lambda llm: llm.embed(["a"]),
    "scores": lambda llm: llm.scores,
    "ctx": lambda llm: llm.ctx,
    "model": lambda llm: llm.model,
    "pooling_type": lambda llm: llm.pooling_type(),
    "set_cache": lambda llm: llm.set_cache(object()),
    "logits_processor": lambda llm: llm("a", logits_processor=llama_compat.LogitsProcessorList([print])),
    "generate": lambda llm: primed(llm).send([5]),
    "sample with penalties": lambda llm: llm.sample(repeat_penalty=1.1),
    "stopping_criteria": lambda llm: llm("a", echo=True, logprobs=1, stopping_criteria=stop_after(3)),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_says_so_by_name(ours: Llama, name: str) -> None:
    with pytest.raises(NotImplementedError, match=name):
        MISSING[name](ours)


@pytest.mark.parametrize("given", [{"tfs_z": 0.5}, {"mirostat_mode": 2}], ids=str)
def test_samplers_that_are_missing_are_refused_by_name(ours: Llama, given: dict[str, Any]) -> None:
    for method, argument in ((ours, "a"), (ours.create_chat_completion, CHAT), (ours.generate, [5])):
        with pytest.raises(ValueError, match=next(iter(given))):
            method(argument, **given)


def test_functions_are_called_tools(ours: Llama) -> None:
    with pytest.raises(ValueError, match=r"functions.*tools"):
        ours.create_chat_completion(CHAT, functions=[{"name": "now"}])
    tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
    answer = ours.create_chat_completion(CHAT, tools=[tool], tool_choice="required", temperature=0, max_tokens=60)
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "now"


def test_a_suffix_is_what_follows_the_middle(ours: Llama) -> None:
    answer = ours("def add(a, b):\n", "\nprint(add(1, 2))", 8, temperature=0)
    assert answer["usage"]["completion_tokens"] <= 8 and answer["timings"]["draft_n"] == 0
    with pytest.raises(ValueError, match="max_tokens"):
        ours("a", suffix="b", max_tokens=None)


def test_grammars_say_what_is_wrong(ours: Llama, tmp_path: Path) -> None:
    (tmp_path / "g.gbnf").write_text(YES_OR_NO)
    assert text(ours(SORT, grammar=llama_compat.LlamaGrammar.from_file(tmp_path / "g.gbnf"))) in ("yes", "no")
    assert text(ours(SORT, grammar=llama_cpp.LlamaGrammar.from_string(YES_OR_NO))) in ("yes", "no")
    with pytest.raises(ValueError, match="grammar"):
        ours(SORT, grammar=llama_compat.LlamaGrammar.from_string("root ::= ("))
    with pytest.raises(ValueError, match="from_json_schema"):
        llama_compat.LlamaGrammar.from_json_schema("{")
    with pytest.raises(ValueError, match="empty"):
        llama_compat.LlamaGrammar.from_string("")
    with pytest.raises(TypeError, match="grammar"):
        ours(SORT, grammar=5)


def test_an_error_of_a_criterion_reaches_the_caller_and_ends_the_request(ours: Llama) -> None:
    def broken(ids: Any, logits: Any) -> bool:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        ours(SORT, stopping_criteria=broken)
    assert text(ours(SORT, temperature=0, stop=["5"]))


def test_criteria_see_the_logits_of_the_next_token(ours: Llama) -> None:
    """Theirs see a row of the prompt."""
    comma = ours.tokenize(b",", False)[0]
    seen = []

    def likeliest_is_a_comma(ids: Any, logits: Any) -> bool:
        seen.append((len(logits), logits.shape, float(logits[0]) == float(np.asarray(logits)[0])))
        return int(np.argmax(logits)) == logits.argmax() == comma

    assert text(ours(SORT, temperature=0, max_tokens=30, stopping_criteria=likeliest_is_a_comma)) == "The numbers 55"
    assert set(seen) == {(ours.n_vocab(), (ours.n_vocab(),), True)}


def test_criteria_hold_within_a_draft(ours: Llama) -> None:
    """However many tokens a pass brings, the answer has those that the criteria let through."""
    for n in range(7):
        for mode in ("ar", "self-spec", "diffusion"):
            answer = ours(
                SORT, temperature=0, max_tokens=20, mode=mode, logprobs=0 if mode == "ar" else None,
                stopping_criteria=limit(ours, n),
            )  # fmt: skip
            assert answer["usage"]["completion_tokens"] == n
            if mode == "ar":
                assert len(answer["choices"][0]["logprobs"]["tokens"]) == n


def test_a_state_can_be_pickled(ours: Llama) -> None:
    ours(SORT, temperature=0, max_tokens=4)
    state = pickle.loads(pickle.dumps(ours.save_state()))
    ours.trimode.clear_cache()
    ours.load_state(state)
    assert state.n_tokens == ours.n_tokens
    assert ours(SORT, temperature=0, max_tokens=4)["timings"]["cache_n"] > 0


def test_from_pretrained_takes_the_one_file_that_matches(
    q8_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository is a folder: no test goes out."""
    names = ["a/model-q8_0.gguf", "a/model-f16.gguf", "lora.gguf"]
    fetched = []

    def fetch(repo_id: str, name: str, **kwargs: Any) -> str:
        fetched.append(name)
        return str(q8_gguf)

    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda repo_id: names)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with contextlib.closing(Llama.from_pretrained("who/what", "*q8_0.gguf", ["lora*"], n_ctx=128, n_threads=1)) as llm:
        assert llm.n_ctx() == 128
    assert fetched == ["a/model-q8_0.gguf", "lora.gguf"]
    for pattern, message in (("*q4*", "No file"), ("a/*", "Multiple files"), (None, "filename")):
        with pytest.raises(ValueError, match=message):
            Llama.from_pretrained("who/what", pattern)


def test_from_pretrained_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pytrimode\[hub\]"):
        Llama.from_pretrained("who/what", "*.gguf")
