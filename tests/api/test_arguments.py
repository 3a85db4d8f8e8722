"""What the methods of TriMode and AsyncTriMode take, and what they say of anything else."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytrimode import AsyncTriMode, TriMode, _native
from pytrimode.options.generation_options import option_table
from pytrimode.options.load_options import LoadOptions
from pytrimode.options.option import rows

PROMPT = "Write a Python function called add_two"
QUESTION = [{"role": "user", "content": "Sort these numbers: 5, 3, 9, 1"}]
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 12}


def text_of(result: Any) -> str:
    choice = result["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def awaited(method: str) -> Callable[..., Any]:
    """The method of an AsyncTriMode, run to its end."""

    def call(model: TriMode, *arguments: Any, **options: Any) -> Any:
        return asyncio.run(getattr(AsyncTriMode(model), method)(*arguments, **options))

    return call


METHODS: dict[str, tuple[Callable[..., Any], Any]] = {
    "create_completion": (TriMode.create_completion, PROMPT),
    "create_chat_completion": (TriMode.create_chat_completion, QUESTION),
    "generate": (TriMode.generate, [5, 6, 7]),
    "__call__": (TriMode.__call__, PROMPT),
    "create_completion, async": (awaited("create_completion"), PROMPT),
    "create_chat_completion, async": (awaited("create_chat_completion"), QUESTION),
}


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_argument_is_named_with_what_is_close(model: TriMode, name: str) -> None:
    method, prompt = METHODS[name]
    says = rf"{name.split(',')[0].replace('__call__', 'create_completion')}\(\) got an unexpected keyword argument"
    with pytest.raises(TypeError, match=rf"^{says} 'temprature'\. Did you mean temperature\?$"):
        method(model, prompt, temprature=0.0)
    with pytest.raises(TypeError, match=rf"^{says} 'qqq'$"):
        method(model, prompt, qqq=1)


def test_close_matches_include_the_methods_own_arguments(model: TriMode) -> None:
    with pytest.raises(TypeError, match=r"'logprob'\. Did you mean logprobs or top_logprobs"):
        model.create_chat_completion(QUESTION, logprob=True)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"'top_logprobs'\. Did you mean logprobs"):
        model.create_completion(PROMPT, top_logprobs=2)  # type: ignore[call-overload]


COMPLETION, CHAT = "create_completion", "create_chat_completion"


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        (COMPLETION, {"prompt": 3}, "prompt: expected text or token ids, got 3 (int)"),
        (COMPLETION, {"prompt": ["a"]}, "prompt: expected text or token ids, got ['a'] (list)"),
        (COMPLETION, {"prompt": [1.5]}, "prompt: expected text or token ids, got [1.5] (list)"),
        (COMPLETION, {"prompt": None}, "prompt: expected text or token ids, got None (NoneType)"),
        (COMPLETION, {"suffix": 1.0}, "suffix: expected text or token ids, got 1.0 (float)"),
        (COMPLETION, {"stream": "yes"}, "stream: expected True or False, got 'yes' (str)"),
        (COMPLETION, {"echo": 1}, "echo: expected True or False, got 1 (int)"),
        (COMPLETION, {"logprobs": "3"}, "logprobs: expected a whole number, got '3' (str)"),
        (COMPLETION, {"top_k": 4.5}, "top_k: expected a whole number, got 4.5 (float)"),
        (COMPLETION, {"top_k": True}, "top_k: expected a whole number, got True (bool)"),
        (COMPLETION, {"temperature": "hot"}, "temperature: expected a number, got 'hot' (str)"),
        (COMPLETION, {"stop": [1]}, "stop: expected text or a list of texts, got [1] (list)"),
        (COMPLETION, {"logit_bias": [(1, 2)]}, "logit_bias: expected token ids with numbers, got [(1, 2)] (list)"),
        (CHAT, {"messages": "Hi"}, "messages: expected a list of messages, each with a role, got 'Hi' (str)"),
        (CHAT, {"messages": ["Hi"]}, "messages: expected a list of messages, each with a role, got ['Hi'] (list)"),
        (CHAT, {"messages": 3}, "messages: expected a list of messages, each with a role, got 3 (int)"),
        (CHAT, {"logprobs": 2}, "logprobs: expected True or False, got 2 (int)"),
        (CHAT, {"response_format": "json"}, "response_format: expected names with values, got 'json' (str)"),
        (CHAT, {"reasoning_format": 1}, "reasoning_format: expected text, got 1 (int)"),
        (CHAT, {"chat_template_kwargs": 1}, "chat_template_kwargs: expected names with values, got 1 (int)"),
        (CHAT, {"enable_thinking": "no"}, "enable_thinking: expected True or False, got 'no' (str)"),
        ("generate", {"tokens": "ab"}, "tokens: expected token ids, got 'ab' (str)"),
        ("tokenize", {"text": 3}, "text: expected text, got 3 (int)"),
        ("detokenize", {"tokens": "ab"}, "tokens: expected token ids, got 'ab' (str)"),
        ("keep", {"prompt": {}}, "prompt: expected text or token ids, got {} (dict)"),
        ("logits", {"tokens": "ab"}, "tokens: expected token ids, got 'ab' (str)"),
        ("save_state", {"tokens": "ab"}, "tokens: expected token ids, got 'ab' (str)"),
    ],
)
def test_a_wrong_type_is_a_type_error_that_names_the_argument(
    model: TriMode, method: str, arguments: dict[str, Any], message: str
) -> None:
    prompts: dict[str, dict[str, Any]] = {COMPLETION: {"prompt": PROMPT}, CHAT: {"messages": QUESTION}}
    with pytest.raises(TypeError) as raised:
        getattr(model, method)(**prompts.get(method, {}) | arguments)
    assert str(raised.value) == message


@pytest.mark.parametrize("value", [2**31, 2**40, 10**400, -(2**31) - 1])
def test_a_number_that_the_engine_cannot_hold_is_a_value_error(model: TriMode, value: int) -> None:
    for name in ("top_k", "dry_allowed_length", "max_tokens"):
        with pytest.raises(ValueError, match=f"^{name} {value}: must be "):
            model.create_completion(PROMPT, **{name: value})  # type: ignore[call-overload]


def test_token_ids_that_no_vocabulary_has_are_value_errors(model: TriMode) -> None:
    for call in (model.create_completion, model.detokenize, model.generate, model.keep):
        with pytest.raises(ValueError, match=r"\[1, 1000000000000\] \(list\) is more than the engine can hold"):
            call([1, 10**12])
        with pytest.raises(ValueError, match="token id 1000000 is not in the vocabulary"):
            list(call([1, 10**6]))
    with pytest.raises(ValueError, match=r"temperature: 1000.*is more than the engine can hold"):
        model.create_completion(PROMPT, temperature=10**400)


def test_none_means_the_default_of_the_method(model: TriMode) -> None:
    for method, prompt in ((model.create_completion, PROMPT), (model.create_chat_completion, QUESTION)):
        method: Any
        names = [n for n in inspect.signature(method).parameters if n not in ("prompt", "messages", "max_tokens")]
        nothing = dict.fromkeys(names)
        assert {"temperature", "seed", "stop", "stream", "logprobs"} <= nothing.keys()
        chosen = dict(nothing, temperature=0.0, max_tokens=12)
        assert text_of(method(prompt, **chosen)) == text_of(method(prompt, **GREEDY))
    # The methods' own defaults, not those of the dataclass.
    hot, cold = (
        model.jobs.asked_completion(PROMPT, temperature=None, max_tokens=4).options.engine,
        model.jobs.asked_chat(QUESTION, temperature=None).options.engine,
    )
    assert (hot.temperature, cold.temperature) == pytest.approx((0.8, 0.2))


def test_seed_minus_one_and_none(q8_gguf: Path) -> None:
    with TriMode(q8_gguf, n_ctx=128, n_threads=1, seed=7) as seeded:
        seeds = [
            seeded.jobs.asked_completion(PROMPT, **options).options.engine.seed
            for options in ({}, {"seed": None}, {"seed": 3}, {"seed": -1}, {"seed": -1}, {"seed": -2})
        ]
    assert seeds[:3] == [7, 7, 3]
    assert seeds[3] != seeds[4] and 2**64 - 1 not in seeds
    assert seeds[5] == 2**64 - 2


def test_bytes_are_text_and_numpy_numbers_are_numbers(model: TriMode) -> None:
    usual = model.create_completion(PROMPT, stop=["def"], **GREEDY)
    for stop in (b"def", [b"def"], ("def",)):
        assert text_of(model.create_completion(PROMPT.encode(), stop=stop, **GREEDY)) == text_of(usual)  # type: ignore[arg-type]
    messages = [{"role": "user", "content": b"Sort these numbers: 5, 3, 9, 1"}]
    assert text_of(model.create_chat_completion(messages, **GREEDY)) == text_of(
        model.create_chat_completion(QUESTION, **GREEDY)
    )
    tokens = model.tokenize(PROMPT)
    numbers: dict[str, Any] = {"temperature": np.float32(0), "max_tokens": np.int64(12), "ignore_eos": np.False_}
    assert text_of(model.create_completion(np.array(tokens), stop="def", **numbers)) == text_of(usual)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="prompt: the bytes are not UTF-8: invalid start byte at byte 0"):
        model.create_completion(b"\xff")


def test_the_engine_names_an_option_of_a_wrong_type() -> None:
    options = _native.RequestOptions(mode="ar", max_tokens=1)
    wrong: dict[str, tuple[Any, str]] = {
        "top_k": ("x", "expected a whole number of 32 bits, got 'x' (str)"),
        "max_tokens": (2**40, "expected a whole number of 32 bits, got 1099511627776 (int)"),
        "seed": (-1, "expected a whole number of 64 bits, not negative, got -1 (int)"),
        "stop": (3, "expected a list of texts, got 3 (int)"),
        "suffix": (["a"], "expected token ids, got ['a'] (list)"),
        "grammar": (None, "expected text, got None (NoneType)"),
        "keep": ("yes", "expected True or False, got 'yes' (str)"),
        "logit_bias": ({1: "a"}, "expected token ids with numbers, got {1: 'a'} (dict)"),
    }
    for name, (value, message) in wrong.items():
        message = rf"^RequestOptions\.{name}: {re.escape(message)}$"
        with pytest.raises(TypeError, match=message):
            _native.RequestOptions(**{name: value})
        with pytest.raises(TypeError, match=message):
            options.replace(**{name: value})
        with pytest.raises(TypeError, match=message):
            setattr(options, name, value)
    for made in (_native.RequestOptions, options.replace):
        with pytest.raises(TypeError, match=r"^RequestOptions has no option 'warmth'$"):
            made(warmth=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r'^unknown mode "fast"; modes: ar, diffusion, self-spec$'):
        _native.RequestOptions(mode="fast")


def test_options_of_the_engine_are_what_was_given() -> None:
    given: dict[str, Any] = {
        "mode": "diffusion", "fusing": "measured", "reveal": "leftmost", "stop": ["a", "b"], "suffix": [3, 4],
        "logit_bias": {5: 1.5}, "seed": 2**64 - 1, "temperature": 0.5, "keep": True,
        "simulated_acceptance": [0.5, 0.25],
    }  # fmt: skip
    options = _native.RequestOptions(**given)
    changed = options.replace(top_k=7)
    assert {name: getattr(options, name) for name in given} == given
    assert {name: getattr(changed, name) for name in given} == given
    assert (options.top_k, changed.top_k) == (40, 7)


def test_a_model_is_loaded_with_named_options(q8_gguf: Path) -> None:
    with pytest.raises(TypeError, match=r"^TriMode\(\) got an unexpected keyword argument 'n_context'\. Did you mean"):
        TriMode(q8_gguf, n_context=128)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^TriMode\(\) got an unexpected keyword argument 'verbos'"):
        asyncio.run(AsyncTriMode.load(q8_gguf, verbos=True))  # type: ignore[call-arg]
    wrong: dict[str, tuple[Any, str]] = {
        "n_ctx": ("128", "expected a whole number, got '128' (str)"),
        "n_gpu_layers": (1.5, "expected a whole number or a name, got 1.5 (float)"),
        "tensor_split": ("3,1", "expected a list of numbers, got '3,1' (str)"),
        "flash_attn": ("on", "expected True or False, got 'on' (str)"),
        "lora_path": (3.5, "expected a path, got 3.5 (float)"),
        "type_k": (8, "expected text, got 8 (int)"),
    }
    for name, (value, message) in wrong.items():
        with pytest.raises(TypeError) as raised:
            TriMode(q8_gguf, **{name: value})
        assert str(raised.value) == f"{name}: {message}"
    for name, value in {"n_ctx": -1, "n_batch": 0, "max_queue": -1, "n_threads": -1, "n_parallel": 0}.items():
        with pytest.raises(ValueError, match=f"^{name} {value}: must be "):
            TriMode(q8_gguf, **{name: value})  # type: ignore[arg-type]
    nothing: dict[str, Any] = dict.fromkeys(inspect.signature(TriMode).parameters.keys() - {"path", "n_ctx"})
    with TriMode(str(q8_gguf).encode(), n_ctx=128, **nothing) as found:  # type: ignore[arg-type]
        assert (found.n_ctx, found.n_parallel, found.has_lora) == (128, 1, False)
        assert found.model_path == str(q8_gguf)


def test_help_shows_the_options_by_name() -> None:
    for method, temperature, max_tokens in (
        (TriMode.create_completion, 0.8, 16),
        (TriMode.create_chat_completion, 0.2, None),
        (TriMode.generate, 0.8, None),
    ):
        shown = inspect.signature(method).parameters
        assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in shown.values())
        assert shown["temperature"].default == temperature and shown["max_tokens"].default == max_tokens
        assert shown["top_k"].default == 40 and shown["top_k"].annotation == "int | None"


def test_internals_are_not_in_sight() -> None:
    assert not {"completion_job", "chat_job", "step_maker"} & {n for n in dir(TriMode) if not n.startswith("_")}


def test_text_that_is_not_utf8_is_named(model: TriMode) -> None:
    said: Any = [{"role": "user", "content": "caf\udce9"}]
    for call in (lambda: model.create_completion("caf\udce9"), lambda: model.create_chat_completion(said)):
        with pytest.raises(ValueError, match=r"not UTF-8: it has '\\udce9'"):
            call()


@pytest.mark.parametrize("name", [row.name for row in option_table().values() if not row.about.varies])
def test_every_option_of_a_request_is_checked_by_name(model: TriMode, name: str) -> None:
    wrong = object()
    for method, prompt in ((model.create_completion, PROMPT), (model.create_chat_completion, QUESTION)):
        method: Any
        with pytest.raises(TypeError, match=rf"^{name}: expected .*, got <object object at .* \(object\)$"):
            method(prompt, **{name: wrong})
        assert method(prompt, **GREEDY | {name: None, "max_tokens": 1})["choices"]


@pytest.mark.parametrize("name", rows(LoadOptions))
def test_every_option_of_loading_is_checked_by_name(q8_gguf: Path, name: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name}: expected .*, got <object object at .* \(object\)$"):
        TriMode(q8_gguf, **{name: object()})  # type: ignore[misc,arg-type]


def test_text_options_take_bytes(model: TriMode) -> None:
    grammar = 'root ::= "left" | "right"'
    assert text_of(model.create_completion(PROMPT, grammar=grammar.encode(), **GREEDY)) in ("left", "right")  # type: ignore[arg-type]
    for name in ("grammar", "mode", "reveal", "stop", "sampler"):
        with pytest.raises(ValueError, match=f"^{name}: the bytes are not UTF-8"):
            model.create_completion(PROMPT, **{name: b"\xff"})  # type: ignore[call-overload]
