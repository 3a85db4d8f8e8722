"""Decisions: log-likelihoods of given answers against other ways to compute them, and what is refused."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.decoding import chat_prompts, decode
from support.reference import ministral3, reference_logits

from pytrimode import AsyncTriMode, CacheFullError, QueueFullError, TriMode
from pytrimode.answers.decision import MAX_CHOICE_TOKENS, MAX_CHOICES
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

QUESTION = [{"role": "user", "content": "Sort these numbers: 52, 31, 97"}]
ANSWERS = ["31, 52, 97", "52, 31, 97", "I do not know", "3", "31"]


def log_softmax(rows: np.ndarray, mask: int) -> np.ndarray:
    rows = rows.astype(np.float64)
    others = np.delete(rows, mask, axis=1)
    highest = others.max(axis=1, keepdims=True)
    return rows - highest - np.log(np.exp(others - highest).sum(axis=1, keepdims=True))


def scored(rows: np.ndarray, tokens: list[int], mask: int) -> list[float]:
    return [float(row[token]) for row, token in zip(log_softmax(rows, mask), tokens, strict=True)]


def test_the_likelihoods_are_those_of_causal_rows_and_of_a_block(model: TriMode) -> None:
    decision = model.decide(QUESTION, ANSWERS)
    prompt = model.chat_tokens(QUESTION)
    n = len(prompt)
    longest = max(len(choice["tokens"]) for choice in decision["choices"])
    assert decision["usage"] == {
        "prompt_tokens": n, "choice_tokens": sum(len(choice["tokens"]) for choice in decision["choices"]),
        "masks": longest,
    }  # fmt: skip
    block = model.logits([*prompt, *[model.mask_token_id] * longest], block_start=n, first=n)
    for answer, choice in zip(ANSWERS, decision["choices"], strict=True):
        tokens = model.tokenize(answer, add_bos=False)
        assert (choice["text"], choice["tokens"]) == (answer, tokens)
        causal = scored(model.logits([*prompt, *tokens])[n - 1 : -1], tokens, model.mask_token_id)
        assert choice["token_logprobs"] == pytest.approx(causal, abs=1e-4)
        assert choice["logprob"] == pytest.approx(sum(causal), abs=1e-3)
        masked = sum(scored(block[: len(tokens)], tokens, model.mask_token_id))
        assert choice["block"]["logprob"] == pytest.approx(masked, abs=1e-3)
    for shown in (decision["choices"], [choice["block"] for choice in decision["choices"]]):
        total = sum(math.exp(one["logprob"]) for one in shown)
        assert [one["probability"] for one in shown] == pytest.approx(
            [math.exp(one["logprob"]) / total for one in shown]
        )
    # "3" begins two of the others: it is no less likely than they are.
    assert decision["choices"][3]["logprob"] >= max(decision["choices"][i]["logprob"] for i in (0, 4))


def test_they_are_what_ar_reports_of_the_tokens_that_it_writes_to_the_bit(model: TriMode, checkpoint_dir: Path) -> None:
    for prompt in chat_prompts(model, checkpoint_dir, 3):
        options = GenerationOptions(mode="ar", max_tokens=20, logprobs=0, sampling=Sampling(temperature=0.0))
        events = model.run_many([(prompt, model.resolve(options, len(prompt)))], 1)
        written = [position.chosen for _, event in events for position in event.logprobs]
        tokens = [chosen.token for chosen in written][:-1]
        scores = model.engine.score(prompt, [tokens, tokens[:5]])
        assert scores[0] == [chosen.logprob for chosen in written][:-1]
        assert scores[1] == scores[0][:5]


def test_likelihoods_are_those_of_transformers(checkpoint_dir: Path, f32_gguf: Path) -> None:
    reference = ministral3(checkpoint_dir)
    with TriMode(f32_gguf, n_ctx=512, n_threads=1, type_k="f32", type_v="f32", lora_path=None) as model:
        decision = model.decide(QUESTION, ANSWERS[:3])
        prompt, mask = model.chat_tokens(QUESTION), model.mask_token_id
        masks = decision["usage"]["masks"]
        block = reference_logits(reference, [*prompt, *[mask] * masks], len(prompt))[len(prompt) :]
        for choice in decision["choices"]:
            tokens = choice["tokens"]
            causal = reference_logits(reference, [*prompt, *tokens])[len(prompt) - 1 : -1]
            assert choice["logprob"] == pytest.approx(sum(scored(causal, tokens, mask)), abs=0.01)
            masked = sum(scored(block[: len(tokens)], tokens, mask))
            assert choice["block"]["logprob"] == pytest.approx(masked, abs=0.01)


def test_choices_together_are_what_they_are_alone_to_the_bit(model: TriMode) -> None:
    words = "one two three four five six seven eight nine ten"
    choices = [f"{a} {b} {c}" for a in words.split() for b in words.split()[:3] for c in words.split()[:3]]
    together = model.decide(QUESTION, choices)["choices"]
    for choice in together[::9]:
        model.clear_cache()
        (alone,) = model.decide(QUESTION, [choice["text"]])["choices"]
        assert alone["token_logprobs"] == choice["token_logprobs"]
        assert alone["probability"] == 1.0


def test_the_prompt_is_computed_once_and_choices_share_passes(model: TriMode) -> None:
    prompt = model.tokenize("A prompt of some length, never seen before: " + "tea, milk, " * 30)
    model.clear_cache()
    before = model.engine.times
    model.engine.score(prompt, [[token] for token in range(100, 120)])
    after = model.engine.times
    assert after["rows"] - before["rows"] == len(prompt), "single tokens are all told by the prompt's last row"
    assert after["passes"] - before["passes"] == 2
    model.engine.score(prompt, [[100, token] for token in range(200, 210)] + [[101, 7], [101]])
    last = model.engine.times
    assert last["rows"] - after["rows"] == 4, "two beginnings of two rows each, the prompt from the cache"
    assert last["passes"] - after["passes"] == 1


def test_a_long_choice_takes_several_passes_and_is_the_same(model: TriMode) -> None:
    prompt, long = model.tokenize("Numbers:"), model.tokenize("1 2 3 4 5 6 7 8 9 " * 6, add_bos=False)
    assert 32 < len(long) <= MAX_CHOICE_TOKENS
    (score, short) = model.engine.score(prompt, [long, long[:3]])
    rows = model.logits([*prompt, *long])[len(prompt) - 1 : -1]
    assert score == pytest.approx(scored(rows, long, model.mask_token_id), abs=1e-4)
    assert short == score[:3]


# --- Where prompt and choice meet ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "choices"), [("The answer is", [" yes", " no"]), ("The answer is ", ["yes", "no"])])
def test_a_text_and_a_choice_are_tokenized_together(model: TriMode, text: str, choices: list[str]) -> None:
    decision = model.decide(text, choices)
    n = decision["usage"]["prompt_tokens"]
    for choice, given in zip(decision["choices"], choices, strict=True):
        whole = model.prompt_tokens(text + given)
        assert whole[n:] == choice["tokens"]
        rows = model.logits(whole)[n - 1 : -1]
        assert choice["logprob"] == pytest.approx(sum(scored(rows, whole[n:], model.mask_token_id)), abs=1e-3)
    other = model.decide("The answer is", [" yes", " no"])
    assert [c["probability"] for c in decision["choices"]] == pytest.approx(
        [c["probability"] for c in other["choices"]]
    )


def test_a_token_across_the_boundary_belongs_to_all_choices(model: TriMode) -> None:
    text, choices = "Sort these num", ["bers", "eral", "!"]
    decision = model.decide(text, choices)
    n = decision["usage"]["prompt_tokens"]
    assert n < len(model.prompt_tokens(text)), "the test needs a token that has characters of both"
    for choice, given in zip(decision["choices"], choices, strict=True):
        assert model.detokenize(model.prompt_tokens(text + given)[:n] + choice["tokens"]).decode() == text + given


def test_special_tokens_are_text_in_chats_and_ids_in_prompts(model: TriMode) -> None:
    (chat,) = model.decide(QUESTION, ["<|im_end|>"])["choices"]
    assert model.special_token("<|im_end|>") not in chat["tokens"] and chat["text"] == "<|im_end|>"
    (plain,) = model.decide("Hello", ["<|im_end|>"])["choices"]
    assert plain["tokens"] == [model.special_token("<|im_end|>")]


def test_behind_token_ids_a_choice_is_tokenized_alone(model: TriMode) -> None:
    prompt = model.prompt_tokens("Sort these num")
    (choice,) = model.decide(prompt, ["bers"])["choices"]
    assert choice["tokens"] == model.tokenize("bers", add_bos=False)


# --- The block pass --------------------------------------------------------------------------------------------------


def test_one_mask_estimates_the_first_token(model: TriMode) -> None:
    decision = model.decide(QUESTION, ANSWERS, masks=1)
    prompt = model.chat_tokens(QUESTION)
    row = model.logits([*prompt, model.mask_token_id], block_start=len(prompt), first=len(prompt))
    for choice in decision["choices"]:
        expected = scored(row, choice["tokens"][:1], model.mask_token_id)[0]
        assert choice["block"]["logprob"] == pytest.approx(expected, abs=1e-4)
    assert decision["choices"][3]["block"] == decision["choices"][4]["block"]


def test_without_masks_there_is_no_block_pass(model: TriMode) -> None:
    decision = model.decide(QUESTION, ANSWERS, masks=0)
    assert decision["usage"]["masks"] == 0 and all("block" not in choice for choice in decision["choices"])


# --- Beside requests -------------------------------------------------------------------------------------------------


def test_other_requests_go_on_and_nothing_changes(q8_gguf: Path, checkpoint_dir: Path) -> None:
    with TriMode(q8_gguf, n_ctx=2048, n_threads=1, n_parallel=2, n_ubatch=64) as model:
        prompts = chat_prompts(model, checkpoint_dir, 2, long_tokens=300)
        alone = [decode(model, prompt, mode="auto", max_tokens=60)[0] for prompt in prompts]
        expected = [model.decide(prompt, ANSWERS)["choices"] for prompt in prompts]
        model.clear_cache()
        with ThreadPoolExecutor(4) as threads:
            texts = [threads.submit(decode, model, prompt, mode="auto", max_tokens=60) for prompt in prompts]
            decisions = [threads.submit(model.decide, prompt, ANSWERS) for prompt in prompts]
            assert [text.result()[0] for text in texts] == alone
            assert [decision.result()["choices"] for decision in decisions] == expected


def test_a_request_takes_part_between_the_parts_of_a_decision(q8_gguf: Path) -> None:
    with TriMode(q8_gguf, n_ctx=2048, n_threads=1, n_parallel=2, n_ubatch=64) as model:
        engine = model.engine
        resolved = model.resolve(GenerationOptions(mode="ar", max_tokens=200, ignore_eos=True, loop_window=0), 5)
        request = engine.submit(model.prompt_tokens("Hello"), resolved.engine)
        engine.step()
        long = model.tokenize("one two three four " * 150)
        engine.score(long, [[token, token, token] for token in range(100, 140)])
        events = engine.step()
        emitted = sum(len(event.tokens) for event in events)
        assert emitted > len(long) // 64, "a token for each part of the prompt and of the choices"
        engine.release(request)


def test_async_decisions_are_the_same(model: TriMode) -> None:
    async def run() -> Any:
        return await AsyncTriMode(model).decide(QUESTION, ANSWERS, masks=2)

    assert asyncio.run(run())["choices"] == model.decide(QUESTION, ANSWERS, masks=2)["choices"]


def test_a_full_cache_and_a_full_queue_are_said(q8_gguf: Path) -> None:
    with TriMode(q8_gguf, n_ctx=256, n_threads=1, max_queue=0) as model:
        engine = model.engine
        resolved = model.resolve(GenerationOptions(mode="ar", max_tokens=-1, ignore_eos=True), 200)
        request = engine.submit(list(range(100, 300)), resolved.engine)
        engine.step()
        with pytest.raises(CacheFullError, match="no room to score"):
            model.decide(list(range(300, 500)), ["a", "b"])
        engine.release(request)
        engine.step()
        model.decide(list(range(300, 500)), ["a", "b"])
        model._loop.reserve(1)
        with pytest.raises(QueueFullError):
            model.decide("Hello", ["a"])
        model._loop.free(1)


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([], "choices: there are 0, give between 1 and"),
        ([str(i) for i in range(MAX_CHOICES + 1)], f"there are {MAX_CHOICES + 1}"),
        (["yes", ""], r"choices\[1\] is empty"),
        (["yes", "no", "yes"], "choices has 'yes' 2 times"),
        (["yes", "no " * 200], r"choices\[1\] has \d+ tokens: at most"),
    ],
)
def test_impossible_choices_are_refused(model: TriMode, choices: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.decide(QUESTION, choices)


def test_wrong_types_and_sizes_are_refused(model: TriMode) -> None:
    for choices in ("yes", [1, 2], None):
        with pytest.raises(TypeError, match="choices: expected a list of texts"):
            model.decide("Hello", choices)  # type: ignore[arg-type]
    for masks in (-1, 1000):
        with pytest.raises(ValueError, match=f"masks {masks}: must be between 0 and"):
            model.decide("Hello", ["a"], masks=masks)
    with pytest.raises(ValueError, match="context has 1024"):
        model.decide("word " * 2000, ["a"])
    with pytest.raises(ValueError, match="has no template"):
        model.decide("Hello", ["a"], chat_template_kwargs={"x": 1})
    with pytest.raises(ValueError, match="vocabulary"):
        model.decide([10**6], ["a"])
    with pytest.raises(ValueError, match="prompt"):
        model.decide([], ["a"])


@pytest.mark.parametrize(
    ("tokens", "continuations", "message"),
    [
        ([], [[5]], "no tokens"),
        ([5], [], "no continuations"),
        ([5], [[5], []], "has tokens"),
        ([5], [[-3]], "no images"),
        ([5], [[10**6]], "vocabulary"),
        ([5], [[7] * 1024], "exceed context window"),
    ],
)
def test_the_engine_refuses_what_cannot_be_scored(
    model: TriMode, tokens: list[int], continuations: list[list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.engine.score(tokens, continuations)


def test_a_task_that_is_cancelled_ends_the_scoring(q8_gguf: Path) -> None:
    tokens = [20 + n % 90 for n in range(900)]
    with TriMode(q8_gguf, n_ctx=1024, n_batch=32, n_threads=1) as model:

        def passes() -> float:
            return model.engine.times["passes"]

        async def leave() -> None:
            task = asyncio.ensure_future(AsyncTriMode(model).decide(tokens, ANSWERS))
            while not passes():
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(leave())  # its end waits for the thread that scored
        left = passes()
        model.clear_cache()
        model.decide(tokens, ANSWERS)
        whole = passes() - left
        assert 0 < left < whole - 5
