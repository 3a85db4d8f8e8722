"""Whole numbers in a file's metadata, as the engine reads them itself: behind no check of the header."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hostile import F32, F64, U64, File, scalar

from pytrimode import _native

WRONG = {"nan": (F32, float("nan")), "huge": (F64, 1e300), "2e40": (U64, 2**40), "half": (F32, 2.5)}


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("name", ["block_count", "attention.key_length", "rope.scaling.original_context_length"])
def test_a_number_that_is_no_integer_names_file_and_key(name: str, value: str, f16_gguf: Path, tmp_path: Path) -> None:
    key = f"mistral3.{name}"
    path = tmp_path / "wrong.gguf"
    path.write_bytes(File.read(f16_gguf).set(key, scalar(*WRONG[value])).encode())
    with pytest.raises(RuntimeError, match=rf"wrong\.gguf: metadata key {key} is .*whole number"):
        _native.Model(str(path))
