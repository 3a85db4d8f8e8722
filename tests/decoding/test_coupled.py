"""Coupled: a seed gives the text of ar in self-spec. The quick version of benchmarks/coupled_equality.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.coupled_text import SEEDS, TEMPERATURES, TOP_PS, compare, random_prompts
from support.decoding import chat_prompts, decode
from support.joint_distribution import load_agreeing_model

from pytrimode import TriMode
from pytrimode.options.sampling import Sampling

pytestmark = pytest.mark.slow

N_PROMPTS = 5


@pytest.fixture(scope="module")
def agreeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TriMode]:
    """Random weights: hardly a text is the same under two seeds, and drafts are accepted in part."""
    with load_agreeing_model(tmp_path_factory.mktemp("coupled")) as loaded:
        yield loaded


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("top_p", TOP_PS)
def test_coupled_gives_the_text_of_ar(model: TriMode, checkpoint_dir: Path, temperature: float, top_p: float) -> None:
    prompts = chat_prompts(model, checkpoint_dir, N_PROMPTS)
    runs = list(compare(model, prompts, temperature, top_p, max_tokens=24))
    assert [what for what, _, equal in runs if not equal] == []


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("top_p", TOP_PS)
def test_on_random_weights_too(agreeing: TriMode, temperature: float, top_p: float) -> None:
    runs = list(compare(agreeing, random_prompts(agreeing, 20), temperature, top_p))
    assert [what for what, _, equal in runs if not equal] == []
    texts = {tuple(tokens) for _, tokens, _ in runs}
    assert len(texts) > 1.5 * 20, f"{len(SEEDS)} seeds for 20 prompts must matter, or equality proves nothing"


def test_rejection_does_not(agreeing: TriMode) -> None:
    """Its text is another one, or the tests above would show nothing."""
    sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=1)
    ar, self_spec = (
        [decode(agreeing, p, mode=mode, max_tokens=24, sampling=sampling)[0] for p in random_prompts(agreeing, 5)]
        for mode in ("ar", "self-spec")
    )
    assert ar != self_spec
