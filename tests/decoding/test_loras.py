"""LoRAs of users: all rows of all modes have them, each request its own, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from support.decoding import chat_prompts, decode
from support.loras import MODULES, merge, write_peft
from support.reference import ministral3, reference_logits
from support.synthetic import make_checkpoint

from pytrimode import TriMode, _native
from pytrimode.convert import convert, convert_lora
from pytrimode.llama_compat import Llama
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

N_TOKENS, BLOCK_START = 90, 70
EXACT: dict[str, Any] = {"n_ctx": 256, "flash_attn": False, "type_k": "f32", "type_v": "f32", "n_threads": 1}


def tokens(seed: int = 0) -> list[int]:
    return [1, *(int(t) for t in np.random.default_rng(seed).integers(128, 500, N_TOKENS - 1))]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("loras") / "model"
    make_checkpoint(directory, hidden=128, layers=3, heads=4, kv_heads=2, head_dim=64, ffn=256, dtype="f32")
    convert(directory, directory.parent / "model.gguf", "f32")
    return directory


def adapter(source: Path, name: str, **options: Any) -> Path:
    """An adapter in PEFT's layout, and beside it NAME.gguf."""
    directory = write_peft(source.parent / name, source, **options)
    convert_lora(directory, source.parent / f"{name}.gguf", force=True)
    return directory


ADAPTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "attention": {"modules": ("q_proj", "v_proj"), "rank": 16, "alpha": 16.0},
    "odd": {"rank": 3, "layers": [0, 2], "prefix": "base_model.model.encoder."},
    "rslora": {"rank": 8, "rslora": True},
    "patterns": {
        "ranks": {"q_proj": 7, r"layers\.1\.mlp\.up_proj": 2, "down_proj": 33},
        "alphas": {"o_proj": 2.5, "down_proj": 40.0},
        "rslora": True,
    },
} | {module: {"modules": (module,)} for module in MODULES}


@pytest.mark.parametrize("name", ADAPTERS)
def test_rows_are_those_of_merged_weights(source: Path, name: str) -> None:
    directory = adapter(source, name, seed=list(ADAPTERS).index(name), **ADAPTERS[name])
    reference = ministral3(source)
    plain = reference_logits(reference, tokens())
    merge(reference, directory, 0.5)
    gguf = source.parent / "model.gguf"
    with TriMode(gguf, loras=[(source.parent / f"{name}.gguf", 0.5)], **EXACT) as model:
        for block_start in (None, BLOCK_START):
            expected = reference_logits(reference, tokens(), block_start)
            assert np.abs(model.logits(tokens(), block_start=block_start) - expected).max() <= 2e-4
        assert np.abs(expected - plain).max() > 0.05, "the adapter should change something"
        model.set_lora_scales([])
        assert np.abs(model.logits(tokens()) - plain).max() <= 1e-4


def test_adapters_add_up(source: Path) -> None:
    one, two = adapter(source, "one", seed=1), adapter(source, "two", modules=("o_proj", "up_proj"), rank=5, seed=2)
    reference = ministral3(source)
    merge(reference, one, 0.25)
    merge(reference, two, -1.0)
    loras = [(source.parent / "one.gguf", 0.25), (source.parent / "two.gguf", -1.0)]
    with TriMode(source.parent / "model.gguf", loras=loras, **EXACT) as model:
        assert np.abs(model.logits(tokens()) - reference_logits(reference, tokens())).max() <= 2e-4


def test_stock_llama_cpp_reads_them_alike(source: Path) -> None:
    adapter(source, "stock", ranks={"q_proj": 6}, alphas={"v_proj": 3.0}, seed=4)
    gguf, lora = source.parent / "model.gguf", source.parent / "stock.gguf"
    stock = llama_cpp.Llama(str(gguf), lora_path=str(lora), n_ctx=128, logits_all=True, verbose=False, n_threads=1)
    stock.eval(tokens())
    with TriMode(gguf, loras=[lora], n_ctx=256, n_threads=1) as model:
        assert np.abs(model.logits(tokens()) - np.array(stock.scores[:N_TOKENS])).max() < 2e-2


@pytest.fixture(scope="module", params=["q8_0", "f16", "q4_0"])
def tiny(
    request: pytest.FixtureRequest, tiny_gguf: Any, checkpoint_dir: Path, tmp_path_factory: Any
) -> Iterator[TriMode]:
    """trimode-tiny with its drafter LoRA and two more, which change what it says but leave it language."""
    directory = tmp_path_factory.mktemp("tiny-loras")
    loras = []
    for seed, modules in enumerate((MODULES, ("q_proj", "o_proj", "down_proj"))):
        peft = write_peft(directory / f"peft{seed}", checkpoint_dir, modules, strength=0.6, seed=seed)
        loras.append(convert_lora(peft, directory / f"{seed}.gguf").path)
    with TriMode(tiny_gguf(request.param), loras=loras, n_ctx=2048, n_threads=1, n_parallel=8) as loaded:
        assert loaded.has_lora
        yield loaded


SETS: list[Any] = [
    None,
    [],
    [{"id": 0, "scale": 1.0}],
    [{"id": 1, "scale": 0.7}],
    [{"id": 0, "scale": 0.3}, {"id": 1, "scale": 1.0}],
]
DRAFTS: list[dict[str, Any]] = [
    {"mode": "self-spec", "block_length": 4},
    {"mode": "self-spec", "block_length": 16, "use_lora": False},
    {"mode": "self-spec", "block_length": 8, "fused": True},
    {"mode": "self-spec", "block_length": 8, "ngram": 8},
    {"mode": "auto"},
]


@pytest.fixture(scope="module")
def prompts(tiny: TriMode, checkpoint_dir: Path) -> list[list[int]]:
    return chat_prompts(tiny, checkpoint_dir, 4, 100)


@pytest.mark.slow
def test_self_spec_is_ar_under_every_set(tiny: TriMode, prompts: list[list[int]]) -> None:
    texts = set()
    for lora in SETS:
        for sampling in (Sampling(temperature=0.0), Sampling(temperature=0.8, seed=3, sampler="coupled")):
            for prompt in prompts:
                asked: dict[str, Any] = {"lora": lora, "sampling": sampling, "max_tokens": 30}
                expected, _ = decode(tiny, prompt, **asked, mode="ar")
                texts.add(tuple(expected))
                for drafts in DRAFTS:
                    assert decode(tiny, prompt, **asked, **drafts)[0] == expected
    assert len(texts) > 2 * len(prompts), "the sets should differ"


@pytest.mark.slow
def test_requests_of_different_sets_side_by_side_give_what_each_gives_alone(
    tiny: TriMode, prompts: list[list[int]]
) -> None:

    modes = ("ar", "self-spec", "diffusion")
    asked = [
        (
            prompt,
            GenerationOptions(mode=modes[(i + j) % 3], lora=lora, max_tokens=24, sampling=Sampling(temperature=0.0)),
        )
        for i, lora in enumerate(SETS)
        for j, prompt in enumerate(prompts)
    ]
    alone = []
    for prompt, options in asked:
        tiny.clear_cache()
        alone.append([t for _, e in tiny.run_many([(prompt, tiny.resolve(options, len(prompt)))], 1) for t in e.tokens])
    tiny.clear_cache()
    together: list[list[int]] = [[] for _ in asked]
    jobs = [(prompt, tiny.resolve(options, len(prompt))) for prompt, options in asked]
    for number, event in tiny.run_many(jobs, 8):
        together[number] += event.tokens
    assert together == alone


def test_sets_do_not_share_the_cache(tiny: TriMode, prompts: list[list[int]]) -> None:
    prompt = prompts[1]
    tiny.clear_cache()
    seen = [decode(tiny, prompt, mode="ar", max_tokens=4, lora=lora) for lora in SETS[1:]]
    assert [stats.cached_tokens for _, stats in seen] == [0] * len(seen)
    again = [decode(tiny, prompt, mode="ar", max_tokens=4, lora=lora) for lora in SETS[1:]]
    assert all(stats.cached_tokens == len(prompt) - 1 for _, stats in again)
    assert [emitted for emitted, _ in again] == [emitted for emitted, _ in seen]
    zero = [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 0.0}]  # is none at all
    assert decode(tiny, prompt, mode="ar", max_tokens=4, lora=zero)[1].cached_tokens == len(prompt) - 1


def test_a_saved_state_tells_its_adapters(tiny: TriMode, prompts: list[list[int]]) -> None:
    prompt = prompts[1]
    tiny.clear_cache()
    expected = decode(tiny, prompt, mode="ar", max_tokens=8)[0]
    state = tiny.save_state(prompt)
    assert len(state.tokens) == len(prompt)
    tiny.clear_cache()
    tiny.load_state(state)
    emitted, stats = decode(tiny, prompt, mode="ar", max_tokens=8)
    assert (emitted, stats.cached_tokens) == (expected, len(prompt) - 1)
    scales = [{"id": i, "scale": scale} for i, scale in enumerate(tiny.lora_scales)]
    tiny.set_lora_scales([])
    try:
        with pytest.raises(ValueError, match="the state was saved with other"):
            tiny.load_state(state)
    finally:
        tiny.set_lora_scales(scales)


def test_prompt_logprobs_are_those_of_the_set(tiny: TriMode, prompts: list[list[int]]) -> None:
    found = [
        tiny.create_completion(prompts[0], prompt_logprobs=0, max_tokens=1, lora=lora)["choices"][0]["prompt_logprobs"]
        for lora in (SETS[1], SETS[2])
    ]
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ([{"id": 2, "scale": 1.0}], ValueError, "lora: there is no adapter 2; there are 0 to 1"),
        ([{"id": 0}], ValueError, "lora: expected an id and a scale"),
        ([{"id": "a", "scale": 1.0}], TypeError, "lora: id: expected a whole number"),
        ([{"id": 0, "scale": "x"}], TypeError, "lora: scale: expected a number"),
        ([{"id": 0, "scale": float("nan")}], ValueError, "lora: scale nan"),
        ("x", TypeError, "lora: expected a list of adapters"),
    ],
)
def test_what_a_request_cannot_ask(tiny: TriMode, asked: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tiny.create_completion("Hello", lora=asked)


def test_what_cannot_be_loaded(q8_gguf: Path, source: Path, tmp_path: Path) -> None:
    drafter = q8_gguf.with_name(f"{q8_gguf.stem}-drafter-lora.gguf")
    adapter(source, "other")
    for loras, error, message in (
        ([drafter], ValueError, "it is a drafter LoRA, for drafts alone: give it as --drafter-lora"),
        ([tmp_path / "none.gguf"], FileNotFoundError, "none.gguf: no such file"),
        ([q8_gguf], ValueError, "general.type is 'model', expected 'adapter'"),
        ([source.parent / "other.gguf"], RuntimeError, "other.gguf: .*the adapter belongs to another model"),
        ([5], TypeError, "loras: expected a path, or a path and a scale, got 5"),
        ([(drafter, "x")], TypeError, "loras: expected a number, got 'x'"),
    ):
        with pytest.raises(error, match=message):
            TriMode(q8_gguf, loras=loras, n_ctx=64)
    with TriMode(q8_gguf, n_ctx=64) as model, pytest.raises(ValueError, match="loaded without LoRAs"):
        model.create_completion("Hello", lora=[{"id": 0, "scale": 1.0}])


def test_llama_compat_has_lora_path_and_lora_scale(q8_gguf: Path, checkpoint_dir: Path, tmp_path: Path) -> None:
    peft = write_peft(tmp_path / "peft", checkpoint_dir, seed=5, strength=1.0)
    lora = convert_lora(peft, tmp_path / "lora.gguf").path
    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 12}
    with TriMode(q8_gguf, loras=[(lora, 0.5)], n_ctx=256, n_threads=1) as model:
        expected = model.create_completion("Sort these numbers: 5, 3", mode="ar", **options)["choices"][0]["text"]
        assert expected != model.create_completion("Sort these numbers: 5, 3", lora=[], **options)["choices"][0]["text"]
    llama = Llama(q8_gguf, lora_path=str(lora), lora_scale=0.5, n_ctx=256, n_threads=1, mode="ar", verbose=False)
    assert llama("Sort these numbers: 5, 3", **options)["choices"][0]["text"] == expected


def test_other_paths_of_the_graph(source: Path) -> None:
    adapter(source, "paths", seed=9)
    gguf, lora = str(source.parent / "model.gguf"), str(source.parent / "paths.gguf")
    with TriMode(gguf, loras=[lora], **EXACT) as model:
        expected = model.logits(tokens(), block_start=BLOCK_START)
    for repack, options in ((True, {"use_scheduler": True}), (True, {"device_graphs": True}), (False, {})):
        native = _native.Model(gguf, adapters=[lora], repack=repack)
        engine = _native.Engine(native, n_ctx=256, n_threads=1, flash_attn=False, type_k="f32", type_v="f32", **options)
        found = engine.logits(tokens(), BLOCK_START, lora_scales=[1.0])
        assert np.abs(found - expected).max() <= 1e-4
        with pytest.raises(ValueError, match="lora_scales has 2 scales; the model was loaded with 1 LoRA adapters"):
            engine.logits(tokens(), lora_scales=[1.0, 1.0])


@pytest.mark.parametrize("repack", [True, False])
def test_a_row_does_not_depend_on_its_company(
    tiny_gguf: Any, checkpoint_dir: Path, tmp_path: Path, repack: bool
) -> None:
    lora = convert_lora(write_peft(tmp_path / "peft", checkpoint_dir, rank=5, seed=6), tmp_path / "lora.gguf").path
    with TriMode(tiny_gguf("f32"), loras=[lora], n_ctx=512, n_threads=1, repack=repack) as model:
        prompt = model.tokenize("Sort these numbers: 5, 3, 9, 1. Then count the words: the small dog sleeps")
        whole = model.logits(prompt)
        for n in (1, 2, 3, 7):
            model.clear_cache()
            model.logits(prompt[:-n], first=len(prompt) - n - 1)
            assert np.array_equal(model.logits(prompt, first=len(prompt) - n), whole[-n:])
