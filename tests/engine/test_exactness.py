"""Exactness is the product: greedy self-speculation emits exactly what greedy AR emits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import Llama
from numpy.typing import NDArray
from support.decoding import chat_prompts, decode, decode_all
from support.file_types import PRODUCTS, WITH_PRODUCTS, in_every_type_with_products
from support.reference import argmax, diffusion

from pytrimode import TriMode

N_PROMPTS = 100
MAX_TOKENS = {2: 24, 3: 24, 4: 24, 8: 24, 16: 24, 32: 36}
"""By block length: enough for one block of full length at least, and another that is cut."""
CONFIGURATIONS: list[dict[str, Any]] = [
    {"mode": "self-spec", "max_tokens": max_tokens, "block_length": block_length, "use_lora": use_lora}
    for block_length, max_tokens in MAX_TOKENS.items()
    for use_lora in (True, False)
]
NEAR_TIE = 1e-3


def load(path: Path, **options: Any) -> TriMode:
    return TriMode(path, **{"n_ctx": 2048, "n_threads": 1} | options)


@pytest.mark.slow
@pytest.mark.parametrize(("outtype", "n_prompts"), [("f32", 24), ("f16", 24), ("q8_0", N_PROMPTS)])
def test_greedy_self_spec_equals_greedy_ar(
    tiny_gguf: Callable[[str], Path], checkpoint_dir: Path, outtype: str, n_prompts: int
) -> None:
    """Each prompt alone in one configuration, and in all of them side by side."""
    drafted = accepted = crossing = 0
    with load(tiny_gguf(outtype), n_parallel=len(CONFIGURATIONS)) as model:
        assert model.has_lora
        for i, prompt in enumerate(chat_prompts(model, checkpoint_dir, n_prompts, long_tokens=470, same_history=8)):
            expected, _ = decode(model, prompt, mode="ar", max_tokens=max(MAX_TOKENS.values()))
            crossing += len(prompt) < 512 < len(prompt) + min(len(expected), min(MAX_TOKENS.values()))
            alone = CONFIGURATIONS[i % len(CONFIGURATIONS)]
            answers = [(alone, decode(model, prompt, **alone))]
            answers += zip(CONFIGURATIONS, decode_all(model, [(prompt, c) for c in CONFIGURATIONS]), strict=True)
            for options, (tokens, stats) in answers:
                assert tokens == expected[: options["max_tokens"]], f"{options}, prompt of {len(prompt)} tokens"
                drafted += stats.drafted
                accepted += stats.accepted
    assert crossing >= max(1, n_prompts // 20), "some contexts must cross 512 cells, where ggml changes kernels"
    assert accepted > 0.2 * drafted, "the drafts must matter, or equality proves nothing"


@in_every_type_with_products
def test_greedy_self_spec_equals_greedy_ar_in_every_type_with_products(
    tiny_gguf: Callable[[str], Path], checkpoint_dir: Path, outtype: str
) -> None:
    """Alone for every second prompt, else side by side."""
    with load(tiny_gguf(outtype), n_parallel=4) as model:
        for i, prompt in enumerate(chat_prompts(model, checkpoint_dir, 8, long_tokens=490, same_history=8)):
            expected, _ = decode(model, prompt, mode="ar", max_tokens=24)
            requests = [
                (prompt, {"mode": "self-spec", "max_tokens": 24, "block_length": b, "use_lora": i % 4 < 2})
                for b in (3, 8, 16, 32)
            ]
            alone = i in (0, 1, 6, 7)  # short and long prompts, with the LoRA and without
            answers = (
                [decode(model, prompt, **options) for _, options in requests] if alone else decode_all(model, requests)
            )
            for (_, options), (tokens, _) in zip(requests, answers, strict=True):
                assert tokens == expected, f"{options}, prompt {i}"


@pytest.mark.slow
@pytest.mark.skipif(not PRODUCTS, reason="products of our own need AVX2")
@pytest.mark.parametrize("outtype", ["f32", "f16", "q8_0", *WITH_PRODUCTS])
def test_the_bits_of_a_row_do_not_depend_on_the_number_of_rows(
    tiny_gguf: Callable[[str], Path], checkpoint_dir: Path, outtype: str
) -> None:
    with load(tiny_gguf(outtype)) as model:
        prompt = chat_prompts(model, checkpoint_dir, 2, long_tokens=100)[1][:33]
        expected = model.logits(prompt)
        assert len(expected) == 33
        for n in range(1, 33):
            model.clear_cache()
            assert model.logits(prompt[:n])[-1].tobytes() == expected[n - 1].tobytes(), f"{n} rows"


@pytest.mark.slow
@pytest.mark.parametrize("outtype", ["bf16", "q4_0", "q5_1", "q4_k_m"])
def test_products_of_llama_cpp_differ_only_at_near_ties(
    tiny_gguf: Callable[[str], Path], checkpoint_dir: Path, outtype: str
) -> None:
    """Weights that are not packed. Types without a product (IQ1 to IQ3) part more often, and are not claimed exact."""
    differences = runs = 0
    with load(tiny_gguf(outtype), repack=False) as model:
        for prompt in chat_prompts(model, checkpoint_dir, 12, long_tokens=490, same_history=8):
            expected, _ = decode(model, prompt, mode="ar", max_tokens=24)
            for block_length in (3, 8, 16):
                tokens, _ = decode(model, prompt, mode="self-spec", max_tokens=24, block_length=block_length)
                runs += 1
                if tokens != expected:
                    differences += 1
                    same = next(i for i, (a, b) in enumerate(zip(tokens, expected, strict=False)) if a != b)
                    row = np.sort(model.logits([*prompt, *expected[:same]])[-1])
                    assert row[-1] - row[-2] <= NEAR_TIE
    assert differences <= 0.01 * runs


@pytest.mark.parametrize("outtype", ["f32", "f16", "q8_0"])
def test_the_first_token_follows_the_last_of_the_prompt(tiny_gguf: Callable[[str], Path], outtype: str) -> None:
    """However few rows the last pass of the prefill has, from nothing and behind a cached prefix."""
    prompt = [1, *range(130, 140)]
    with load(tiny_gguf(outtype)) as model:
        expected = [argmax(model.logits(prompt[:n])[-1], model.mask_token_id) for n in range(1, len(prompt) + 1)]
        for rows in range(1, 5):
            for n in range(rows, len(prompt) + 1):
                decode(model, [*prompt[: n - rows], 0], mode="ar", max_tokens=1)
                tokens, stats = decode(model, prompt[:n], mode="ar", max_tokens=1)
                assert stats.prompt_tokens - stats.cached_tokens <= max(rows, 1)
                assert tokens == [expected[n - 1]]


@pytest.mark.slow
@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "q8_0"])
def test_the_same_prompt_again_gives_the_same_bits(
    tiny_gguf: Callable[[str], Path], checkpoint_dir: Path, outtype: str
) -> None:
    """The second time the prompt is found in the cache; the kernels that ran on it must have been the same."""
    with load(tiny_gguf(outtype)) as model:
        for prompt in chat_prompts(model, checkpoint_dir, 20, long_tokens=600):
            model.clear_cache()
            first, cold = decode(model, prompt, mode="ar", max_tokens=16)
            again, warm = decode(model, prompt, mode="ar", max_tokens=16)
            assert (cold.cached_tokens, warm.cached_tokens) == (0, len(prompt) - 1)
            assert again == first


@pytest.mark.slow
def test_greedy_ar_equals_stock_llama_cpp(q8_gguf: Path, checkpoint_dir: Path) -> None:
    stock = Llama(str(q8_gguf), n_ctx=512, n_batch=512, n_threads=1, n_threads_batch=1, flash_attn=True, verbose=False)
    with load(q8_gguf) as model:
        prompts = chat_prompts(model, checkpoint_dir, N_PROMPTS, long_tokens=300, same_history=8)
        for prompt in prompts[::2] + prompts[1::2]:  # stock llama.cpp keeps the last prompt only
            expected: list[int] = []
            for token in stock.generate(prompt, temp=0.0, reset=True):
                expected.append(token)
                if model.is_eog(token) or len(expected) == 30:
                    break
            assert decode(model, prompt, mode="ar", max_tokens=30)[0] == expected


@pytest.fixture(scope="module")
def plain(f32_gguf: Path) -> Iterator[TriMode]:
    """Exact attention: a reference computes everything anew in one pass, with other kernels under flash attention."""
    with load(f32_gguf, flash_attn=False, type_k="f32", type_v="f32") as model:
        yield model


@pytest.fixture(scope="module")
def last_rows(plain: TriMode) -> Callable[..., NDArray[np.float32]]:
    """`plain.logits`, of a block its own rows alone: computed once for all parameters that come to the same tokens."""
    known: dict[tuple[tuple[int, ...], int | None], NDArray[np.float32]] = {}

    def rows(tokens: Sequence[int], block_start: int | None = None) -> NDArray[np.float32]:
        asked = (tuple(tokens), block_start)
        if asked not in known:
            known[asked] = plain.logits(tokens, block_start=block_start)[-1 if block_start is None else block_start :]
        return known[asked]

    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "threshold", "options"),
    [
        (8, 0.9, {}),
        (16, 0.9, {}),
        (16, 0.5, {}),
        (32, 0.99, {}),
        (5, 1.0, {}),
        (1, 0.9, {}),
        (16, 0.9, {"reveal": "leftmost"}),
        (16, 0.87, {"reveal": "margin"}),
        (32, 0.6, {"reveal": "margin"}),
        (16, 0.9, {"reveal": "margin", "steps": 3}),
        (16, 0.9, {"steps": 4}),
        (8, 0.9, {"steps": 3, "reveal": "leftmost"}),
    ],
)
def test_diffusion_equals_the_plain_python_algorithm(
    plain: TriMode, last_rows: Callable[..., NDArray[np.float32]], checkpoint_dir: Path, block: int, threshold: float,
    options: dict[str, Any],
) -> None:  # fmt: skip
    ends = {t for t in range(plain.n_vocab) if plain.is_eog(t)}
    for prompt in chat_prompts(plain, checkpoint_dir, 6):
        expected = diffusion(
            last_rows, prompt, block=block, threshold=threshold, max_tokens=30, mask=plain.mask_token_id, ends=ends,
            **options,
        )  # fmt: skip
        plain.clear_cache()
        tokens, stats = decode(
            plain, prompt, mode="diffusion", max_tokens=30, block_length=block, threshold=threshold, **options
        )
        assert (tokens, stats.forward_passes) == expected


def test_ar_equals_argmax_over_logits(
    plain: TriMode, last_rows: Callable[..., NDArray[np.float32]], checkpoint_dir: Path
) -> None:
    for prompt in chat_prompts(plain, checkpoint_dir, 3):
        tokens, stats = decode(plain, prompt, mode="ar", max_tokens=20)
        known = list(prompt)
        for token in tokens:
            assert token == argmax(last_rows(known)[-1], plain.mask_token_id)
            known.append(token)
        assert stats.forward_passes == len(tokens) - 1
