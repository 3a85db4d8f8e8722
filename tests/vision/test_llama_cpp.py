"""Stock llama.cpp reads the same mmproj file: libmtmd encodes with it, as exactly as its rounding allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.mtmd import Mtmd, without_separators
from support.synthetic import load_weights
from support.vlm import BREAK, make_vlm, picture

from pytrimode import _native
from pytrimode.convert import convert

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "act", "bias"), [("f16", "silu", False), ("q8_0", "silu", False), ("f32", "gelu", True)]
)
def test_libmtmd_encodes_the_same(kind: str, act: str, bias: bool, tmp_path: Path) -> None:
    model = make_vlm(tmp_path / "model", act=act, bias=bias)
    path = convert(model, tmp_path / "model.gguf", "f32", mmproj_type=kind).path
    mmproj = path.with_name("model-mmproj.gguf")
    image = picture(112, 84)
    with Mtmd(mmproj, path) as stock:
        rows = stock.encode(image, 64)
    assert rows.shape == (3 * 5 - 1, 64)
    own = _native.Tower(str(mmproj), n_threads=1).encode(image, 1400)
    theirs = without_separators(rows, 4, 3)
    bound = {"f16": 3e-3, "q8_0": 6e-2, "f32": 3e-3}[kind]
    assert np.linalg.norm(theirs - own) / np.linalg.norm(own) < bound
    embedding = load_weights(model)["encoder.embed_tokens.weight"][BREAK]
    # libmtmd adds the embedding to memory that it never set, times 0: what was NaN or infinite there is NaN.
    separators = rows[[4, 9]]
    assert np.abs((separators - embedding)[np.isfinite(separators)]).max(initial=0.0) < 1e-6
