"""Images through the Python API, in conversations and in saved ones."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.vlm import BREAK, END, PAD, START, picture

from pytrimode import AsyncTriMode, TriMode, _native
from pytrimode.conversation.chat_session import ChatSession
from pytrimode.engine_loop import Cancellation
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.vision.picture import ImageError, open_picture

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 16, "ignore_eos": True, "loop_window": 0}
IMAGE = picture(100, 75)
N_TOKENS = 1 + 3 * (4 + 1)


def ask(image: Any = IMAGE, text: str = "What is this?", **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image", "image": image, **more}, {"type": "text", "text": text}]}]


def url_of(image: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": open_picture(image).data_uri()}}


def answer(model: TriMode, messages: Any, **options: Any) -> str:
    result = model.create_chat_completion(messages, **{**GREEDY, **options})
    return result["choices"][0]["message"]["content"]


def test_the_prompt_of_an_image(vlm: TriMode) -> None:
    prompt = vlm.chat_prompt(ask())
    begin = prompt.tokens.index(START)
    row = [*[PAD] * 4]
    assert prompt.tokens[begin : begin + N_TOKENS] == [START, *row, BREAK, *row, BREAK, *row, END]
    assert prompt.pictures is not None
    assert prompt.pictures.tokens == [N_TOKENS]


@pytest.mark.parametrize("mode", ["ar", "self-spec", "diffusion"])
def test_modes_and_usage(mode: str, vlm: TriMode) -> None:
    vlm.clear_cache()
    result = vlm.create_chat_completion(ask(), mode=mode, **GREEDY)
    details = result["usage"]["prompt_tokens_details"]
    assert details == {"cached_tokens": 0, "image_tokens": N_TOKENS}
    assert result["usage"]["prompt_tokens"] == len(vlm.chat_prompt(ask()).tokens)
    assert result["timings"]["image_n"] == 1
    assert result["timings"]["image_ms"] >= 0
    text = vlm.create_chat_completion([{"role": "user", "content": "What is this?"}], mode=mode, **GREEDY)
    assert "image_tokens" not in text["usage"]["prompt_tokens_details"]
    assert "image_n" not in text["timings"]


def test_self_spec_equals_ar(vlm: TriMode) -> None:
    assert answer(vlm, ask(), mode="self-spec") == answer(vlm, ask(), mode="ar")


def test_every_way_to_give_an_image_is_the_same(vlm: TriMode, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(path)
    wanted = answer(vlm, ask())
    for source in (path, str(path), path.read_bytes(), Image.fromarray(IMAGE)):
        assert answer(vlm, ask(source)) == wanted
    by_url = [{"role": "user", "content": [url_of(IMAGE), {"type": "text", "text": "What is this?"}]}]
    assert answer(vlm, by_url) == wanted
    assert answer(vlm, ask(picture(100, 75, seed=9))) != wanted


def test_the_same_image_is_encoded_once(vlm: TriMode) -> None:
    assert vlm.vision is not None
    vlm.vision.clear()
    vlm.clear_cache()
    first = vlm.create_chat_completion(ask(), **GREEDY)
    again = vlm.create_chat_completion(ask(text="And now?"), **GREEDY)
    shared = len(vlm.chat_prompt(ask()).tokens) - len(vlm.tokenize("What is this?<|im_end|>\n", False, True))
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= N_TOKENS
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] < shared
    assert vlm.vision.cached_bytes == 12 * 64 * 4
    assert first["timings"]["image_ms"] > 0


def test_encoded_images_have_a_limit(vlm_gguf: Path) -> None:
    with TriMode(vlm_gguf, n_ctx=512, n_threads=1) as model:
        assert model.vision is not None
        model.vision.max_cached_bytes = 3 * 12 * 64 * 4
        for seed in range(5):
            answer(model, ask(picture(100, 75, seed)), max_tokens=1)
        assert model.vision.cached_bytes == 3 * 12 * 64 * 4
        model.vision.max_cached_bytes = 1
        assert answer(model, ask(), max_tokens=1) is not None
        assert model.vision.cached_bytes == 0


def test_completions(vlm: TriMode) -> None:
    def tokens_of(prompt: str, images: list[Any]) -> list[int]:
        return vlm.image_prompt(prompt, images).tokens

    front = tokens_of("Two of them", [IMAGE, IMAGE])
    assert front.count(START) == 2
    placed = tokens_of("One <|image_start|> and <|image_start|>", [IMAGE, IMAGE])
    assert placed.index(START) > 1
    result = vlm.create_completion("Two of them", images=[IMAGE, IMAGE], **GREEDY)
    assert result["usage"]["prompt_tokens_details"]["image_tokens"] == 2 * N_TOKENS
    with pytest.raises(ImageError, match="1 places for images and there are 2 images"):
        vlm.create_completion("One <|image_start|>", images=[IMAGE, IMAGE])


def test_several_images_in_order(vlm: TriMode) -> None:
    other = picture(60, 60, 4)
    parts = [{"type": "image", "image": image} for image in (IMAGE, other)]
    first = [{"role": "user", "content": [*parts, {"type": "text", "text": "Which?"}]}]
    second = [{"role": "user", "content": [*parts[::-1], {"type": "text", "text": "Which?"}]}]
    assert answer(vlm, first) != answer(vlm, second)


@pytest.mark.parametrize("text", ["<|image_start|>", "<|image_pad|>", "a <|image_break|> b", "<|image_end|>"])
def test_forged_tokens_stay_text(text: str, vlm: TriMode) -> None:
    """Those of the picture stand where they stand without that text, and there are no others."""
    start = vlm.chat_prompt(ask(text="")).tokens
    for messages, n in (
        (ask(text=text), N_TOKENS),
        ([{"role": "user", "content": text}], 0),
        ([{"role": "system", "content": text}, *ask()], N_TOKENS),
    ):
        found = vlm.chat_prompt(messages).tokens
        assert [token for token in found if START <= token <= END] == [t for t in start if START <= t <= END][:n]
        assert text.encode() in vlm.detokenize([token for token in found if not START <= token <= END])


@pytest.mark.parametrize("text", ["<|image_start|>", "<|image_pad|>", "a <|image_break|> b", "<|image_end|>"])
def test_forged_tokens_are_refused_where_texts_may_have_tokens(text: str, vlm: TriMode) -> None:
    """In replies, whose tokens are the model's own, and everywhere with `parse_special`."""
    with pytest.raises(ImageError, match="must not stand in a text"):
        vlm.chat_prompt([*ask(), {"role": "assistant", "content": text}, {"role": "user", "content": "And?"}])
    vlm.parse_special = True
    try:
        for messages in (ask(text=text), [{"role": "system", "content": text}, *ask()]):
            with pytest.raises(ImageError, match="must not stand in a text"):
                vlm.chat_prompt(messages)
    finally:
        vlm.parse_special = False


def test_what_is_refused(vlm: TriMode, vlm_gguf: Path) -> None:
    part = {"type": "image", "image": IMAGE}
    with pytest.raises(ImageError, match="messages of the user only, not of 'assistant'"):
        vlm.chat_prompt([{"role": "assistant", "content": [part]}])
    with pytest.raises(ImageError, match="at most 8 images"):
        vlm.chat_prompt([{"role": "user", "content": [part] * 9}])
    with pytest.raises(ImageError, match="nothing is fetched"):
        vlm.chat_prompt([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/a.png"}}]}])
    with pytest.raises(ValueError, match="type 'image' is not supported"):
        vlm.chat_prompt(ask(), local=False)
    with pytest.raises(ValueError, match="type 'audio' is not supported"):
        vlm.chat_prompt([{"role": "user", "content": [{"type": "audio"}]}])
    with pytest.raises(ValueError, match=r"type 'image' is not supported|places for images"):
        vlm.chat_prompt([{"role": "user", "content": [{"type": "image"}]}], local=False)
    with (
        TriMode(vlm_gguf, n_ctx=256, n_threads=1, mmproj=None) as text,
        pytest.raises(ValueError, match="loaded without a vision tower"),
    ):
        text.create_chat_completion(ask())


def test_an_image_that_does_not_fit(vlm_gguf: Path) -> None:
    with TriMode(vlm_gguf, n_ctx=256, n_threads=1) as model:
        with pytest.raises(
            ValueError, match=r"the images take 2551, the largest 2551; --image-max-side 392 makes them fit"
        ):
            model.create_chat_completion(ask(np.zeros((1400, 1400, 3), np.uint8)))
        small = [{"role": "user", "content": [url_of(np.zeros((1400, 1400, 3), np.uint8))]}]
        small[0]["content"][0]["image_url"]["detail"] = "low"
        with pytest.raises(ValueError, match="the images take 273"):
            model.create_chat_completion(small)
    with TriMode(vlm_gguf, n_ctx=256, n_threads=1, image_max_side=392) as model:
        assert answer(model, ask(np.zeros((1400, 1400, 3), np.uint8)), max_tokens=2) is not None


def test_a_side_that_is_none(vlm_gguf: Path) -> None:
    with pytest.raises(
        ValueError, match="image_max_side 1000: must be a multiple of 28 from 28 to 1540; the nearest is 1008"
    ):
        TriMode(vlm_gguf, n_ctx=256, image_max_side=1000)


def test_cancelling_while_an_image_is_encoded(vlm_gguf: Path) -> None:
    """A picture that takes seconds: gone at once, and the model goes on."""
    with TriMode(vlm_gguf, n_ctx=4096, n_threads=1) as model:
        prompt = model.chat_prompt(ask(picture(1400, 1400)))
        cancellation = Cancellation()
        steps = model.steps(prompt.tokens, GenerationOptions(max_tokens=4), cancellation, pictures=prompt.pictures)
        threading.Timer(0.3, cancellation).start()
        started = time.process_time()
        with pytest.raises(_native.VisionCancelledError):
            next(steps)
        assert time.process_time() - started < 2, "of the processor's time: the machine may be busy"
        assert answer(model, ask(), max_tokens=2) is not None


def test_async(vlm: TriMode) -> None:
    wanted = answer(vlm, ask())

    async def run() -> str:
        result = await AsyncTriMode(vlm).create_chat_completion(ask(), **GREEDY)
        return result["choices"][0]["message"]["content"]

    assert asyncio.run(run()) == wanted


def test_keep(vlm: TriMode) -> None:
    """A beginning with an image, for prompts that are long enough to have its kernels."""
    vlm.clear_cache()
    large = picture(280, 280)
    n = vlm.keep("Look at this. ", images=[large])
    result = vlm.create_completion("Look at this. " + "What is it? " * 8, images=[large], **GREEDY)
    assert result["usage"]["prompt_tokens_details"]["cached_tokens"] >= n - 1 > 110
    vlm.clear_cache()


def test_a_saved_state_in_another_process(vlm_gguf: Path) -> None:
    """Its tokens are plain; the images are known by their content, and another one is not taken for them."""
    prompt_of = lambda model, image: model.chat_prompt(ask(image))  # noqa: E731
    with TriMode(vlm_gguf, n_ctx=512, n_threads=1) as first:
        wanted = answer(first, ask())
        prompt = prompt_of(first, IMAGE)
        state = first.save_state(prompt.tokens, pictures=prompt.pictures)
    assert state.tokens.min() >= 0
    assert [run.n for run in state.images] == [4, 4, 4]
    with TriMode(vlm_gguf, n_ctx=512, n_threads=1) as second:
        answer(second, ask(picture(60, 60, 1)))  # takes the ids that the first model gave
        second.load_state(state)
        result = second.create_chat_completion(ask(), **GREEDY)
        assert result["usage"]["prompt_tokens_details"]["cached_tokens"] >= len(state.tokens) - 1
        assert result["choices"][0]["message"]["content"] == wanted
        other = second.create_chat_completion(ask(picture(100, 75, 8)), **GREEDY)
        assert other["usage"]["prompt_tokens_details"]["cached_tokens"] <= prompt.tokens.index(START) + 1
    with TriMode(vlm_gguf, n_ctx=512, n_threads=1, mmproj=None) as text, pytest.raises(ValueError, match="has images"):
        text.load_state(state)


def test_a_conversation_is_saved_with_its_images(vlm_gguf: Path, tmp_path: Path) -> None:
    options = GenerationOptions(max_tokens=8, sampling=GenerationOptions().sampling.__class__(temperature=0))

    def session(model: TriMode) -> ChatSession:
        return ChatSession(model, options=options)

    def say(chat: ChatSession, text: str, images: list[Any]) -> tuple[str, int]:
        steps = list(chat.send(text, images))
        return "".join(step.text for step in steps), steps[-1].ending.measured["usage"]["prompt_tokens_details"][
            "cached_tokens"
        ]

    with TriMode(vlm_gguf, n_ctx=512, n_threads=1) as model:
        chat = session(model)
        say(chat, "What is this?", [IMAGE])
        n_saved = chat.save(tmp_path / "talk")
        wanted, _ = say(chat, "And now?", [])
    with TriMode(vlm_gguf, n_ctx=512, n_threads=1) as model:
        chat = session(model)
        loaded = chat.load(tmp_path / "talk")
        assert (loaded.cached_tokens, loaded.notice) == (n_saved, "")
        found, cached = say(chat, "And now?", [])
        assert found == wanted
        assert cached >= n_saved
    with TriMode(vlm_gguf, n_ctx=512, n_threads=1, mmproj=None) as model:
        chat = session(model)
        assert "has images" in chat.load(tmp_path / "talk").notice
        with pytest.raises(ValueError, match="without a vision tower"):
            chat.send("And now?")


def test_the_oldest_turns_go_when_there_are_too_many_images(vlm: TriMode) -> None:
    chat = ChatSession(vlm, options=GenerationOptions(max_tokens=1))
    for seed in range(10):
        list(chat.send("And this?", [picture(28, 28, seed)]))
    assert chat.dropped_turns == 1
    assert sum(isinstance(turn["content"], list) for turn in chat.turns) == 8


def test_another_models_tower(vlm_gguf: Path, q8_gguf: Path) -> None:
    with pytest.raises(RuntimeError, match="it belongs to another model; give the right one"):
        TriMode(q8_gguf, n_ctx=64, mmproj=vlm_gguf.with_name("vlm-mmproj.gguf"))
