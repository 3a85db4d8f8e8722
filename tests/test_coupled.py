"""Coupled: a seed gives the text of ar in self-spec. The quick version of benchmarks/coupled_equality.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from coupled_text import TEMPERATURES, TOP_PS, compare
from decoding import chat_prompts, decode

from pytrimode import TriMode
from pytrimode.sampling import Sampling

N_PROMPTS = 5


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("top_p", TOP_PS)
def test_coupled_gives_the_text_of_ar(model: TriMode, checkpoint_dir: Path, temperature: float, top_p: float) -> None:
    prompts = chat_prompts(model, checkpoint_dir, N_PROMPTS)
    different = [what for what, _, equal in compare(model, prompts, temperature, top_p, max_tokens=24) if not equal]
    assert different == []


def test_rejection_does_not(model: TriMode, checkpoint_dir: Path) -> None:
    """Its text is another one, or the test above would show nothing."""
    sampling = Sampling(temperature=2.0, top_k=0, top_p=1.0, min_p=0.0, seed=1)
    prompts = chat_prompts(model, checkpoint_dir, N_PROMPTS)
    texts = [
        [decode(model, p, mode=mode, max_tokens=24, sampling=sampling)[0] for p in prompts]
        for mode in ("ar", "self-spec")
    ]
    assert texts[0] != texts[1]
