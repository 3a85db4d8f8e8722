"""The Python API on the real engine: results, streaming, stop strings, limits, and leaving early."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

import pytrimode
from pytrimode import MODES, TriMode
from pytrimode.formats.text_stream import TextStream

PROMPT = "Write a Python function called add_two"
CHAT_PROMPT = (
    "<|im_start|>user\nWrite a class Car with name and speed.<|im_end|>\n<|im_start|>assistant\n<think></think>"
)
"""A chat turn spelled out: the answer to it is long in every mode."""
QUESTION = [{"role": "user", "content": "Sort these numbers: 5, 3, 9, 1"}]
OUR_USAGE = {"forward_passes", "prompt_tokens_details", "completion_tokens_details"}


@pytest.fixture(scope="module")
def babbler(random_gguf: Path) -> Iterator[TriMode]:
    with TriMode(random_gguf, n_ctx=512, n_threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def without_mask(random_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TriMode]:
    """What any other Ministral 3 file is: the same architecture, no mask token."""
    file = tmp_path_factory.mktemp("maskless") / "model.gguf"
    data, key = random_gguf.read_bytes(), b"tokenizer.ggml.mask_token_id"
    assert data.count(key) == 1
    # Another key of the same length: the engine then finds no mask.
    file.write_bytes(data.replace(key, b"tokenizer.ggml.xxxx_token_id"))
    with TriMode(file, n_ctx=256, n_threads=1) as loaded:
        yield loaded


def text_of(chunks: list[Any]) -> str:
    return "".join(c["choices"][0]["text"] for c in chunks)


def chat_text_of(chunks: list[Any]) -> str:
    return "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)


# --- Results ---------------------------------------------------------------------------------------------------------


def shape(value: Any) -> Any:
    """Keys and types, without the values."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(v) for v in value]
    return type(value).__name__


def without_extras(result: Any) -> Any:
    """The result as llama-cpp-python would give it."""
    result = {k: v for k, v in result.items() if k != "timings"}
    result["choices"] = [{k: v for k, v in c.items() if k != "finish_details"} for c in result["choices"]]
    if "usage" in result:
        result["usage"] = {k: v for k, v in result["usage"].items() if k not in OUR_USAGE}
    return result


def test_results_have_the_shape_and_in_ar_the_text_of_llama_cpp_python(q8_gguf: Path, model: TriMode) -> None:
    stock = llama_cpp.Llama(str(q8_gguf), n_ctx=256, verbose=False)
    options = {"max_tokens": 12, "temperature": 0.0}
    for create in ("create_completion", "create_chat_completion"):
        prompt = CHAT_PROMPT if create == "create_completion" else QUESTION
        theirs = getattr(stock, create)(prompt, **options)
        ours = getattr(model, create)(prompt, mode="ar", **options)
        assert shape(without_extras(ours)) == shape(theirs)
        for key in ("object", "choices", "usage"):
            assert without_extras(ours)[key] == theirs[key]
        assert ours["id"].startswith("chatcmpl-" if "chat" in create else "cmpl-")

        their_chunks = list(getattr(stock, create)(prompt, stream=True, **options))
        our_chunks = list(getattr(model, create)(prompt, mode="ar", stream=True, **options))
        for ours, theirs in ((our_chunks[0], their_chunks[0]), (our_chunks[1], their_chunks[1])):
            assert shape(without_extras(ours)) == shape(theirs)
        last = dict(our_chunks[-1])
        assert last.pop("usage") and last.pop("timings")
        assert shape(without_extras(last)) == shape(their_chunks[-1])
        assert len({c["id"] for c in our_chunks}) == 1


@pytest.mark.parametrize("mode", MODES)
def test_usage_and_timings_add_up(model: TriMode, mode: str) -> None:
    result: Any = model.create_completion(PROMPT, temperature=0.0, max_tokens=24, mode=mode, ignore_eos=True)
    usage, timings = result["usage"], result["timings"]
    assert usage["prompt_tokens"] == len(model.tokenize(PROMPT))
    assert usage["completion_tokens"] == 24 == timings["predicted_n"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + 24
    assert timings["prompt_n"] == usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
    assert usage["forward_passes"] == timings["forward_passes"] > 0
    assert timings["tokens_per_forward"] == pytest.approx(24 / timings["forward_passes"])
    assert 0 <= timings["draft_n_accepted"] <= timings["draft_n"]
    assert (timings["draft_n"] > 0) == (mode == "self-spec")


def test_echo_and_call(model: TriMode) -> None:
    plain: Any = model.create_completion(PROMPT, temperature=0.0, max_tokens=5)
    echoed: Any = model(PROMPT, temperature=0.0, max_tokens=5, echo=True)
    assert echoed["choices"][0]["text"] == PROMPT + plain["choices"][0]["text"]
    tokens = model.tokenize(PROMPT)
    from_tokens: Any = model(tokens, temperature=0.0, max_tokens=5, echo=True)
    assert from_tokens["choices"][0]["text"] == echoed["choices"][0]["text"]
    streamed: Any = model(PROMPT, temperature=0.0, max_tokens=5, echo=True, stream=True)
    assert text_of(list(streamed)) == echoed["choices"][0]["text"]


def test_chat_prompt_has_one_bos_and_ends_where_the_answer_begins(model: TriMode) -> None:
    tokens = model.chat_tokens(QUESTION)
    assert tokens.count(model.bos_token_id) == 1 and tokens[0] == model.bos_token_id
    text = model.detokenize(tokens, special=True).decode()
    assert text == model.chat_template.render(QUESTION, enable_thinking=False)
    assert QUESTION[0]["content"] in text
    thinking = model.detokenize(model.chat_tokens(QUESTION, enable_thinking=True), special=True).decode()
    assert text.endswith("<think></think>") and thinking.endswith("<think>\n")


# --- Streaming and text ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_streamed_equals_unstreamed(model: TriMode, mode: str) -> None:
    for n in (1, 7, 40):
        whole: Any = model.create_completion(PROMPT, temperature=0.0, max_tokens=n, mode=mode)
        chunks: Any = list(model.create_completion(PROMPT, temperature=0.0, max_tokens=n, mode=mode, stream=True))
        assert text_of(chunks) == whole["choices"][0]["text"]
        assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
        assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    answer: Any = model.create_chat_completion(QUESTION, temperature=0.0, max_tokens=30, mode=mode)
    chat_chunks: Any = list(
        model.create_chat_completion(QUESTION, temperature=0.0, max_tokens=30, mode=mode, stream=True)
    )
    assert chat_text_of(chat_chunks) == answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("mode", MODES)
def test_stream_never_splits_a_character(babbler: TriMode, mode: str) -> None:
    for prompt in ("Größe, Привет", "你好世界"):
        options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 60, "mode": mode, "ignore_eos": True}
        tokens = list(babbler.generate(babbler.tokenize(prompt), **options))
        expected = babbler.detokenize(tokens).decode("utf-8", "replace")
        chunks: Any = list(babbler.create_completion(prompt, stream=True, **options))
        assert text_of(chunks) == expected
        assert any(ord(c) > 127 for c in expected), "the test needs a text with characters of several bytes"


@pytest.mark.parametrize("mode", MODES)
def test_stop_string_is_found_across_tokens_and_never_shown(model: TriMode, mode: str) -> None:
    whole: Any = model.create_completion(CHAT_PROMPT, temperature=0.0, max_tokens=40, mode=mode, ignore_eos=True)
    text = whole["choices"][0]["text"]
    assert len(text) > 20
    for start, length in itertools.product((0, 1, 6, 11), (1, 3, 9)):
        stop = text[start : start + length]
        options: dict[str, Any] = {
            "temperature": 0.0,
            "max_tokens": 40,
            "mode": mode,
            "ignore_eos": True,
            "stop": ["not there", stop],
        }
        result: Any = model.create_completion(CHAT_PROMPT, **options)
        assert result["choices"][0]["text"] == text[: text.index(stop)]
        assert result["choices"][0]["finish_reason"] == "stop"
        chunks: Any = list(model.create_completion(CHAT_PROMPT, stream=True, **options))
        assert text_of(chunks) == result["choices"][0]["text"]


def test_text_stream_gives_the_same_text_however_the_bytes_are_cut() -> None:
    text = "naïve 你好 🙂 aXYZb"
    data = text.encode()
    for stop, expected in (((), text), (("XYZ",), text[: text.index("X")]), (("🙂",), "naïve 你好 "), (("XYQ",), text)):
        for size in range(1, len(data) + 1):
            stream = TextStream(stop)
            pieces = [stream.feed(data[i : i + size]) for i in range(0, len(data), size)]
            assert "".join(pieces) + stream.finish() == expected
            assert stream.stopped == (expected != text)


def test_text_stream_takes_the_stop_string_that_is_complete_first() -> None:
    for size in range(1, 8):
        stream = TextStream(["bcd", "abcdef"])
        assert "".join(stream.feed(b"0abcdefg"[i : i + size]) for i in range(0, 8, size)) == "0a"


def test_text_stream_replaces_broken_characters_only() -> None:
    stream = TextStream()
    assert stream.feed(b"a\xe4\xbd") == "a"
    assert stream.feed(b"\xa0b") == "你b"
    assert stream.feed(b"\xff\xe4") == "\ufffd"
    assert stream.finish() == "\ufffd"
    with pytest.raises(ValueError, match="empty"):
        TextStream([""])


# --- Limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_max_tokens_is_exact(model: TriMode, mode: str) -> None:
    for n in (1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 18, 33):
        for block_length in (1, 2, 5, 16):
            options: dict[str, Any] = {
                "temperature": 0.0,
                "max_tokens": n,
                "mode": mode,
                "block_length": block_length,
                "ignore_eos": True,
            }
            assert len(list(model.generate(model.tokenize(PROMPT), **options))) == n
    result: Any = model.create_completion(PROMPT, temperature=0.0, max_tokens=17, mode=mode, ignore_eos=True)
    assert result["usage"]["completion_tokens"] == 17 and result["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("mode", MODES)
def test_full_context_ends_with_length(q8_gguf: Path, mode: str) -> None:
    with TriMode(q8_gguf, n_ctx=48, n_threads=1) as small:
        for max_tokens in (None, -1, 1000):
            result: Any = small.create_completion(
                PROMPT, temperature=0.0, max_tokens=max_tokens, mode=mode, ignore_eos=True
            )
            assert result["usage"]["total_tokens"] == 48
            assert result["choices"][0]["finish_reason"] == "length"
        n = len(small.tokenize(PROMPT))
        with pytest.raises(ValueError, match=rf"Requested tokens \({48 + n}\) exceed context window of 48"):
            small.create_completion([1] * (48 + n), temperature=0.0, mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_mask_is_never_emitted(babbler: TriMode, model: TriMode, mode: str) -> None:
    for one in (babbler, model):
        tokens = list(one.generate(one.tokenize("a b c"), temperature=0.0, max_tokens=100, mode=mode, ignore_eos=True))
        assert len(tokens) == 100 and one.mask_token_id not in tokens


def test_impossible_options_are_refused_at_the_call(model: TriMode) -> None:
    for options, message in (
        ({"mode": "quick"}, "unknown mode 'quick': use one of ar, diffusion, self-spec"),
        ({"temperature": -0.7}, "temperature -0.7"),
        ({"max_tokens": -2}, "max_tokens -2"),
        ({"block_length": 0}, "block_length 0"),
        ({"block_length": 100_000}, "block_length 100000"),
        ({"threshold": 1.5}, "threshold 1.5"),
        ({"stop": [""]}, "stop string"),
    ):
        for stream in (False, True):
            with pytest.raises(ValueError, match=message):
                model.create_completion(PROMPT, stream=stream, **options)
    with pytest.raises(ValueError, match="empty"):
        model.create_completion([])
    with pytest.raises(ValueError, match="vocabulary"):
        model.create_completion([model.n_vocab])
    with pytest.raises(ValueError, match="Unknown role"):
        model.create_chat_completion([{"role": "wizard", "content": "x"}])
    with pytest.raises(ValueError, match="image_url"):
        model.create_chat_completion([{"role": "user", "content": [{"type": "image_url"}]}])


def test_mode_names(model: TriMode, without_mask: TriMode) -> None:
    text = {}
    for name in ("diffusion", "dlm", "self-spec", "linear_spec", "auto"):
        result: Any = model.create_completion(PROMPT, temperature=0.0, max_tokens=10, mode=name)
        text[name] = result["choices"][0]["text"]
    assert text["dlm"] == text["diffusion"]
    assert text["linear_spec"] == text["self-spec"] == text["auto"]

    assert without_mask.mask_token_id == -1
    for name in ("diffusion", "self-spec"):
        with pytest.raises(ValueError, match="mask token"):
            without_mask.create_completion(PROMPT, temperature=0.0, mode=name)
    assert list(without_mask.generate([1, 5], temperature=0.0, max_tokens=3, mode="auto", ignore_eos=True)) == list(
        without_mask.generate([1, 5], temperature=0.0, max_tokens=3, mode="ar", ignore_eos=True)
    )


# --- Leaving early, sharing, closing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_left_early_does_not_disturb_the_next(model: TriMode, mode: str) -> None:
    before: Any = model.create_completion(PROMPT, temperature=0.0, max_tokens=40, mode=mode, ignore_eos=True)
    chunks: Any = model.create_completion(
        PROMPT, temperature=0.0, max_tokens=400, mode=mode, ignore_eos=True, stream=True
    )
    next(chunks)
    chunks.close()
    tokens: Any = model.generate(model.tokenize(PROMPT), temperature=0.0, max_tokens=400, mode=mode, ignore_eos=True)
    next(tokens)
    del tokens
    after: Any = model.create_completion(PROMPT, temperature=0.0, max_tokens=40, mode=mode, ignore_eos=True)
    assert after["choices"] == before["choices"]


def test_two_streams_may_be_open_at_once(model: TriMode) -> None:
    alone = [list(model.generate([1, 5 + i], temperature=0.0, max_tokens=20, ignore_eos=True)) for i in range(2)]
    first, second = (model.generate([1, 5 + i], temperature=0.0, max_tokens=20, ignore_eos=True) for i in range(2))
    head = next(first)
    assert list(second) == alone[1]
    assert [head, *first] == alone[0]


def test_keyboard_interrupt_ends_the_request_only(model: TriMode) -> None:
    before: Any = model.create_completion(PROMPT, temperature=0.0, max_tokens=30, ignore_eos=True)
    timer = threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(1000):
            model.create_completion(PROMPT, temperature=0.0, max_tokens=900, mode="ar", ignore_eos=True)
    after: Any = model.create_completion(PROMPT, temperature=0.0, max_tokens=30, ignore_eos=True)
    assert after["choices"] == before["choices"]


def test_threads_may_share_a_model(model: TriMode) -> None:
    prompts = [f"Reverse the word number {i}" for i in range(6)]
    expected = [list(model.generate(model.tokenize(p), temperature=0.0, max_tokens=25)) for p in prompts]
    results: dict[int, list[int]] = {}

    def work(i: int) -> None:
        results[i] = list(model.generate(model.tokenize(prompts[i]), temperature=0.0, max_tokens=25))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [results[i] for i in range(len(prompts))] == expected


def test_a_closed_model_says_so(q8_gguf: Path) -> None:
    with TriMode(q8_gguf, n_threads=1, n_ctx=64) as loaded:
        stream: Any = loaded.create_completion(PROMPT, stream=True)
        next(stream)
    with pytest.raises(RuntimeError, match="closed"):
        next(stream)
    with pytest.raises(RuntimeError, match="closed"):
        loaded.create_completion(PROMPT)
    loaded.close()


# --- Files, logits, packaging ----------------------------------------------------------------------------------------


def test_the_drafter_lora_beside_the_model_is_found(q8_gguf: Path, tmp_path: Path) -> None:
    options: Any = {"n_threads": 1, "n_ctx": 64}
    with TriMode(q8_gguf, **options) as found, TriMode(q8_gguf, lora_path=None, **options) as without:
        assert found.has_lora and not without.has_lora
        with_lora = found.logits([1, 5, 100], block_start=1, lora=True)
        assert (with_lora != found.logits([1, 5, 100], block_start=1)).any()
        with pytest.raises(ValueError, match="LoRA"):
            without.logits([1, 5, 100], block_start=1, lora=True)
    with pytest.raises(FileNotFoundError, match="no such file"):
        TriMode(q8_gguf, lora_path=tmp_path / "none.gguf")


def test_logits_are_one_row_per_token(model: TriMode) -> None:
    rows = model.logits([1, 5, 6, 7])
    assert rows.shape == (4, model.n_vocab) and rows.dtype == "float32"
    assert (model.logits([1, 5])[1] == rows[1]).all()
    with pytest.raises(ValueError, match="block_start 4"):
        model.logits([1, 5, 6, 7], block_start=4)


def test_bad_files_are_named(tmp_path: Path, checkpoint_dir: Path, q8_gguf: Path) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    (tmp_path / "short.gguf").write_bytes(q8_gguf.read_bytes()[:-1000])
    for path, message in (
        (tmp_path / "none.gguf", "no such file"),
        (tmp_path / "text.gguf", "not a GGUF file"),
        (tmp_path, "is a directory"),
        (checkpoint_dir, "trimode-convert"),
        (tmp_path / "short.gguf", "short.gguf"),
    ):
        with pytest.raises((ValueError, OSError, RuntimeError), match=message):
            TriMode(path)


def test_another_llama_cpp_python_is_refused() -> None:
    with pytest.raises(ImportError, match=r"built for llama-cpp-python 0\.0\.1, installed is .*pip install"):
        pytrimode._check_llama_cpp_python("0.0.1")


def test_import_is_light() -> None:
    heavy = {"torch", "transformers", "llama_cpp", "jinja2"}
    code = "import pytrimode, sys; print(*sys.modules)"
    assert not heavy & set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


def test_log_probabilities_of_an_echoed_prompt(model: TriMode) -> None:
    tokens = model.prompt_tokens("def add(a, b):\n    return a + b\n" * 8)
    rows = model.logits(tokens).astype("float64")
    rows -= rows.max(axis=1, keepdims=True)
    expected = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    for n in (0, 3):
        result: Any = model.create_completion(
            tokens, max_tokens=n, logprobs=2, echo=True, temperature=0.0, ignore_eos=True
        )
        found = result["choices"][0]["logprobs"]
        assert len(found["tokens"]) == len(tokens) + n == len(found["text_offset"])
        assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
        for i, token in enumerate(tokens[1:]):
            assert found["token_logprobs"][i + 1] == pytest.approx(expected[i, token], abs=1e-4)
            assert sorted(found["top_logprobs"][i + 1].values(), reverse=True) == pytest.approx(
                sorted(expected[i], reverse=True)[:2], abs=1e-4
            )
        assert result["usage"]["completion_tokens"] == n
        chunks: Any = list(
            model.create_completion(
                tokens, max_tokens=n, logprobs=2, echo=True, temperature=0.0, ignore_eos=True, stream=True
            )
        )
        streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks]
        assert [p for part in streamed if part for p in part["token_logprobs"]] == found["token_logprobs"]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_behind_a_stop_string_stays_in_the_cache(q8_gguf: Path, mode: str) -> None:
    with TriMode(q8_gguf, n_ctx=512, n_threads=1) as fresh:
        # So long that it is computed in tiles, as longer ones are: what the cache holds of it is as good for them.
        prompt = fresh.prompt_tokens("Words, words, words. " * 20 + CHAT_PROMPT)
        assert len(prompt) >= 64
        tokens = list(fresh.generate(prompt, max_tokens=60, temperature=0.0, mode=mode, ignore_eos=True))
        for at in (3, 10, 17, 30):
            stop = fresh.detokenize(tokens[at : at + 1]).decode()
            if not stop.strip() or stop in fresh.detokenize(tokens[:at]).decode():
                continue
            options: dict[str, Any] = {"max_tokens": 60, "temperature": 0.0, "mode": mode, "ignore_eos": True}
            fresh.clear_cache()
            fresh.create_completion(prompt, stop=stop, **options)
            again: Any = fresh.create_completion([*prompt, *tokens], max_tokens=1, temperature=0.0)
            cached = again["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert len(prompt) <= cached <= len(prompt) + at + 1
            return
    pytest.fail("the test needs a token that can serve as a stop string")


def test_a_grammar_that_cannot_be_kept_fails_its_request_alone(model: TriMode) -> None:
    beside = model.generate(model.tokenize(PROMPT), max_tokens=20, temperature=0.0)
    tokens = [next(beside)]
    with pytest.raises(ValueError, match="allows no text"):
        model.create_completion("a", grammar='root ::= "\\x00"')
    with pytest.raises(RuntimeError, match="grammar: it does not allow"):
        model.create_completion("<think>", grammar="root ::= [a-z]+", max_thinking_tokens=0)
    tokens += beside
    assert tokens == list(model.generate(model.tokenize(PROMPT), max_tokens=20, temperature=0.0))
    assert model.create_completion("word " * 200, max_tokens=2, ignore_eos=True)["usage"]["completion_tokens"] == 2  # type: ignore[index]


def test_a_model_goes_with_its_last_reference(q8_gguf: Path) -> None:
    gc.disable()
    try:
        model = TriMode(q8_gguf, n_ctx=256, n_threads=1)
        model.create_chat_completion([{"role": "user", "content": "Hello"}], max_tokens=2)
        model.close()
        gone = weakref.ref(model)
        del model
        assert gone() is None
    finally:
        gc.enable()
