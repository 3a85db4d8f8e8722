"""Conversations: what goes when the context is full, saving and loading, and what the cache must not change."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.decoding import heldout

from pytrimode import TriMode
from pytrimode.answers.results import Usage
from pytrimode.conversation.chat_session import ChatSession
from pytrimode.files.cache_state import CacheState
from pytrimode.files.conversation_file import read_conversation, write_conversation
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

SMALL = 256

LOAD_AND_ASK = """
import json, sys
from pytrimode import TriMode
from pytrimode.conversation.chat_session import ChatSession
from pytrimode.options.generation_options import GenerationOptions

model_file, first, second, question = sys.argv[1:]
with TriMode(model_file, n_ctx=1024, n_threads=1) as model:
    session = ChatSession(model, options=GenerationOptions())
    loaded = session.load(first)
    session.save(second)
    *_, last = session.send(question)
print(json.dumps([loaded, session.messages, last.ending.measured["usage"]]))
"""


@pytest.fixture(scope="module")
def small(q8_gguf: Path) -> Iterator[TriMode]:
    with TriMode(q8_gguf, n_ctx=SMALL, n_threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def questions(checkpoint_dir: Path) -> list[str]:
    """One of each task in turn."""
    by_task: dict[str, list[str]] = {}
    for item in heldout(checkpoint_dir):
        by_task.setdefault(item["task"], []).append(item["messages"][-1]["content"])
    return [text for texts in zip(*by_task.values(), strict=False) for text in texts]


def new_session(model: TriMode, *, system: str | None = None, thinking: bool = False, **options: Any) -> ChatSession:
    return ChatSession(model, system=system, options=GenerationOptions(**options), enable_thinking=thinking)


def ask(session: ChatSession, text: str) -> tuple[str, Usage]:
    *_, last = session.send(text)
    assert last.ending
    return session.turns[-1]["content"], last.ending.measured["usage"]


def cached(usage: Usage) -> int:
    return usage["prompt_tokens_details"]["cached_tokens"]


def clear_cache(model: TriMode) -> None:
    model.clear_cache()


def conversation(n_turns: int, words: int = 8) -> list[dict[str, str]]:
    turns = []
    for i in range(n_turns):
        turns += [
            {"role": "user", "content": f"question {i}" + " word" * words},
            {"role": "assistant", "content": f"answer {i}"},
        ]
    return turns


def n_common(a: list[int], b: list[int]) -> int:
    """Tokens that both begin with."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))))


def same_state(a: CacheState, b: CacheState) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("tokens", "k", "v"))


# --- Context shift ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_tokens", "reply"), [(40, 40), (None, SMALL // 4), (-1, SMALL // 4), (SMALL, SMALL // 4)])
def test_the_oldest_turns_go_when_no_room_is_left_for_the_reply(
    small: TriMode, max_tokens: int | None, reply: int
) -> None:
    """A length that would never fit counts as none given."""
    session = new_session(small, system="Be brief.", max_tokens=max_tokens)
    session.turns = conversation(12)
    before = session.messages
    user = {"role": "user", "content": "Hello"}
    run = session.send("Hello")
    dropped = session.dropped_turns
    kept = [before[0], *before[1 + 2 * dropped :]]
    one_more = [before[0], *before[1 + 2 * (dropped - 1) :]]
    assert 0 < dropped < 12
    assert len(small.chat_tokens([*kept, user])) + reply <= SMALL < len(small.chat_tokens([*one_more, user])) + reply
    assert session.messages == before, "nothing goes before there is an answer"
    *_, last = run
    assert last.ending and last.ending.measured["usage"]["prompt_tokens"] == len(small.chat_tokens([*kept, user]))
    assert session.messages[:-1] == [*kept, user]


def test_turns_are_dropped_once(small: TriMode, questions: list[str]) -> None:
    session = new_session(small, max_tokens=30)
    dropped = []
    for n, question in enumerate(questions[:12], 1):
        ask(session, question)
        dropped.append(session.dropped_turns)
        assert len(session.turns) == 2 * (n - sum(dropped))
    assert dropped[0] == 0 and sum(dropped) > 0


def test_the_newest_message_is_never_dropped(small: TriMode) -> None:
    session = new_session(small, system="Be brief.")
    session.turns = conversation(3)
    before = session.messages
    with pytest.raises(ValueError, match=rf"Requested tokens \(\d+\) exceed context window of {SMALL}"):
        session.send("word " * SMALL)
    assert session.messages == before and session.dropped_turns == 0
    # Less than a quarter is left for the reply: all others go, and it is answered.
    ask(session, "word " * 215)
    assert session.dropped_turns == 3 and len(session.turns) == 2


def test_a_reply_that_never_began_changes_nothing(small: TriMode) -> None:
    session = new_session(small)
    session.turns = conversation(12)
    before = session.messages
    session.send("Hello").close()
    assert session.dropped_turns > 0 and session.messages == before


# --- Save and load ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ar", "self-spec"])
def test_a_loaded_conversation_goes_on_in_another_process_as_if_it_had_never_been_closed(
    q8_gguf: Path, model: TriMode, questions: list[str], tmp_path: Path, mode: str
) -> None:
    clear_cache(model)
    session = new_session(model, system="You are a helpful assistant.", mode=mode, max_tokens=40)
    for question in questions[:3]:
        ask(session, question)
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    n = session.save(first)
    command = [sys.executable, "-c", LOAD_AND_ASK, str(q8_gguf), str(first), str(second), questions[3]]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded, messages, usage = json.loads(result.stdout)
    assert loaded == [n, ""]
    assert same_state(read_conversation(first).cache, read_conversation(second).cache)
    _, expected = ask(session, questions[3])
    assert messages == session.messages
    assert usage == expected
    assert cached(usage) == n, "only what is new is computed"
    assert n > 0.8 * (usage["prompt_tokens"] - len(model.tokenize(questions[3])))


@pytest.mark.parametrize(("type_k", "type_v"), [("f16", "f16"), ("f32", "bf16"), ("q8_0", "q4_0")])
def test_every_cache_type_comes_back_bit_by_bit(q8_gguf: Path, tmp_path: Path, type_k: str, type_v: str) -> None:
    options: dict[str, Any] = {"n_ctx": SMALL, "n_threads": 1, "type_k": type_k, "type_v": type_v}
    with TriMode(q8_gguf, **options) as one, TriMode(q8_gguf, **options) as other:
        session = new_session(one, mode="self-spec", max_tokens=20)
        ask(session, "Hello")
        session.save(tmp_path / "saved")
        ask(new_session(other, max_tokens=5), "How are you?")
        again = new_session(other, mode="self-spec")
        again.load(tmp_path / "saved")
        prompt = one.chat_tokens(session.messages)
        assert len(one.save_state(prompt).tokens) > 20
        assert np.any(one.save_state(prompt).k) and np.any(one.save_state(prompt).v)
        assert same_state(one.save_state(prompt), other.save_state(prompt))
        assert ask(session, "Thanks") == ask(again, "Thanks")


def test_options_and_messages_come_back(model: TriMode, tmp_path: Path) -> None:
    options = GenerationOptions(
        max_tokens=9, mode="diffusion", steps=3, reveal="leftmost", stop=["\n"],
        sampling=Sampling(temperature=0.7, seed=5, logit_bias={200: 1.5}),
    )  # fmt: skip
    session = ChatSession(model, system="Grüße 你好", options=options, enable_thinking=True)
    session.turns = conversation(2)
    session.save(tmp_path / "saved")
    other = new_session(model, system="another")
    other.turns = conversation(1)
    other.load(tmp_path / "saved")
    assert other.messages == session.messages and other.enable_thinking
    n_vocab = model.n_vocab
    assert other.options.sampling.engine_arguments(n_vocab) == options.sampling.engine_arguments(n_vocab)
    assert replace(other.options, sampling=options.sampling) == options


def test_a_cache_that_does_not_fit_is_left_out_and_told(
    tiny_gguf: Callable[[str], Path], model: TriMode, tmp_path: Path
) -> None:
    session = new_session(model, max_tokens=8)
    session.turns = conversation(10)
    ask(session, "Hello")
    n = session.save(tmp_path / "saved")
    for outtype, options, notice in (
        ("q8_0", {"n_ctx": 1024, "type_k": "q8_0"}, "type_k f16, not q8_0"),
        ("q8_0", {"n_ctx": 128}, f"has {n} tokens, the context has 128"),
        ("f16", {"n_ctx": 1024}, "other weights"),
    ):
        with TriMode(tiny_gguf(outtype), n_threads=1, **options) as other:
            again = new_session(other)
            loaded = again.load(tmp_path / "saved")
            assert loaded.cached_tokens == 0 and notice in loaded.notice
            assert again.messages == session.messages
            _, usage = ask(again, "Thanks")
            assert cached(usage) == 0


def test_files_that_are_no_conversation_of_this_model_are_refused(
    model: TriMode, random_gguf: Path, tmp_path: Path
) -> None:
    session = new_session(model, max_tokens=8)
    ask(session, "Hello")
    session.save(tmp_path / "saved")
    data = (tmp_path / "saved").read_bytes()
    middle = len(data) // 2
    (tmp_path / "text").write_text("Hello")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "cut").write_bytes(data[:-1000])
    (tmp_path / "flipped").write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    np.savez((tmp_path / "arrays").open("wb"), k=np.zeros(3))
    newer = json.loads(np.load(tmp_path / "saved")["conversation"].tobytes()) | {"version": 99}
    np.savez((tmp_path / "newer").open("wb"), conversation=np.frombuffer(json.dumps(newer).encode(), np.uint8))
    with zipfile.ZipFile(tmp_path / "saved") as whole, zipfile.ZipFile(tmp_path / "no_k", "w") as part:
        for name in ("conversation.npy", "tokens.npy", "v.npy"):
            part.writestr(name, whole.read(name))
    before = session.messages
    for name, message in (
        ("text", "not a saved conversation"),
        ("empty", "not a saved conversation"),
        ("arrays", "not a saved conversation"),
        ("cut", "truncated or damaged"),
        ("flipped", "truncated or damaged"),
        ("no_k", "truncated or damaged"),
        ("newer", "version 99"),
    ):
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            session.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        session.load(tmp_path / "none")
    assert session.messages == before
    with TriMode(random_gguf, n_ctx=64, n_threads=1) as other, pytest.raises(ValueError, match="another model: name"):
        new_session(other).load(tmp_path / "saved")


def test_save_replaces_conversations_only(model: TriMode, tmp_path: Path) -> None:
    session = new_session(model)
    session.save(tmp_path / "saved")
    session.turns = conversation(1)
    session.save(tmp_path / "saved")
    assert read_conversation(tmp_path / "saved").turns == session.turns
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path / "notes.txt", tmp_path, tmp_path / "no" / "directory"):
        with pytest.raises(OSError, match=r"give another name|does not exist"):
            session.save(path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    bias: dict[int | str, float] = {1: Fraction(1, 2)}  # type: ignore[dict-item]
    session.options = replace(session.options, sampling=Sampling(logit_bias=bias))
    with pytest.raises(TypeError, match="a Fraction cannot be saved"):
        session.save(tmp_path / "saved")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "saved"]


def test_state_arrays_of_another_size_are_refused(model: TriMode, tmp_path: Path) -> None:
    session = new_session(model, max_tokens=8)
    ask(session, "Hello")
    state = model.save_state(model.chat_tokens(session.messages))
    for part in (replace(state, k=state.k[:, :, 1:].copy()), replace(state, tokens=state.tokens[1:])):
        with pytest.raises(ValueError, match="this cache keeps"):
            model.load_state(part)
    with pytest.raises(ValueError, match="not in the vocabulary"):
        model.load_state(replace(state, tokens=state.tokens + model.n_vocab))
    damaged = tmp_path / "damaged"
    session.save(damaged)
    saved = read_conversation(damaged)
    write_conversation(damaged, replace(saved, cache=replace(saved.cache, v=saved.cache.v[:, 1:])))
    with pytest.raises(ValueError, match="truncated or damaged: k is"):
        session.load(damaged)


def test_a_state_is_of_an_idle_slot(model: TriMode) -> None:
    prompt = model.chat_tokens([{"role": "user", "content": "Write a class Car with name and speed."}])
    clear_cache(model)
    assert len(model.save_state(prompt).tokens) == 0
    run = model.steps(prompt, GenerationOptions(mode="ar"))
    next(run)
    assert len(model.save_state(prompt).tokens) == 0
    run.close()
    state = model.save_state(prompt)
    assert state.tokens.tolist() == prompt
    run = model.steps(prompt, GenerationOptions(mode="ar"))
    next(run)
    with pytest.raises(RuntimeError, match="no idle slot"):
        model.load_state(state)
    run.close()


# --- What the cache must not change ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ar", "self-spec"])
@pytest.mark.parametrize(("outtype", "cache_type"), [("f32", "f32"), ("q8_0", "f16")])
def test_an_answer_from_the_cache_equals_one_without(
    tiny_gguf: Callable[[str], Path], questions: list[str], mode: str, outtype: str, cache_type: str
) -> None:
    """Several conversations, each answer against that of a model which has seen nothing of them."""
    load: dict[str, Any] = {"n_ctx": 1024, "n_threads": 1, "type_k": cache_type, "type_v": cache_type}
    options = {"mode": mode, "max_tokens": 32}
    with TriMode(tiny_gguf(outtype), **load) as model, TriMode(tiny_gguf(outtype), **load) as fresh:
        for i in range(3):
            session = new_session(model, system="Be brief." if i % 2 else None, **options)
            for n, question in enumerate(questions[5 * i : 5 * i + 5]):
                anew = new_session(fresh, system=session.system, **options)
                anew.turns = list(session.turns)
                clear_cache(fresh)
                expected, nothing = ask(anew, question)
                answer, usage = ask(session, question)
                assert cached(nothing) == 0
                assert n == 0 or cached(usage) > 0.5 * usage["prompt_tokens"]
                assert answer == expected


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ar", "self-spec", "diffusion"])
def test_the_cache_changes_no_bit(q8_gguf: Path, questions: list[str], mode: str) -> None:
    load: dict[str, Any] = {"n_ctx": 1024, "n_batch": 128, "n_threads": 1}
    options: dict[str, Any] = {"mode": mode, "max_tokens": 32, "temperature": 0.8, "seed": 1}
    options |= {"logprobs": True, "top_logprobs": 3}
    reused = 0
    with TriMode(q8_gguf, **load) as model, TriMode(q8_gguf, **load) as fresh:
        messages: list[dict[str, str]] = []
        for question in questions[:8]:
            messages.append({"role": "user", "content": question})
            clear_cache(fresh)
            answer: Any = model.create_chat_completion(messages, **options)
            expected: Any = fresh.create_chat_completion(messages, **options)
            assert answer["choices"] == expected["choices"]
            assert expected["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
            reused += answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            messages.append(answer["choices"][0]["message"])
    assert reused > 128


def test_reasoning_is_not_repeated_to_the_model(model: TriMode) -> None:
    """The template drops it, so the cache is good up to where the reasoning began, and the answer is as without it."""
    reasoning, content = "<think>\nThe user greets me.</think>\n", "Hello! How can I help?"
    question = "What is 347 + 85?"
    session = new_session(model, thinking=True, max_tokens=20)
    prompt = model.chat_tokens([{"role": "user", "content": "Hello"}], enable_thinking=True)
    said = model.tokenize(reasoning.removeprefix("<think>\n") + content, add_bos=False, special=True)
    model.create_completion([*prompt, *said], max_tokens=1)
    session.turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": reasoning + content}]

    plain = [*session.turns[:1], {"role": "assistant", "content": content}, {"role": "user", "content": question}]
    wanted = model.chat_tokens(plain, enable_thinking=True)
    common = n_common([*prompt, *said], wanted)
    assert wanted[common - 1] == prompt[-2], "equal up to <think>"
    answer, usage = ask(session, question)
    assert usage["prompt_tokens"] == len(wanted)
    assert cached(usage) == common
    assert session.turns[1]["content"] == reasoning + content, "the history keeps what was said"

    clear_cache(model)
    expected: Any = model.create_chat_completion(
        plain, enable_thinking=True, max_tokens=20, temperature=0.0, reasoning_format="none"
    )
    assert answer == expected["choices"][0]["message"]["content"]
