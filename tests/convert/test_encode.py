"""`_native.encode`: ggml's quantizers over rows of weights, from any buffer, on any number of threads."""

from __future__ import annotations

import mmap
from pathlib import Path

import gguf
import numpy as np
import pytest
from support.synthetic import to_bf16

from pytrimode import _native

COLS = 256
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """Enough rows for several groups; among them zeros, tiny and large ones, and exact ties."""
    rows = np.random.default_rng(0).standard_normal((1500, COLS), dtype=np.float32)
    rows[0] = 0
    rows[1] *= 1e-6
    rows[2] *= 1e4
    rows[3] = np.arange(COLS) % 16 / 2 - 4
    return rows


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("source", ["f32", "bf16", "f16"])
def test_bytes_equal_those_of_gguf_py(values: np.ndarray, source: str, kind: str) -> None:
    stored = {"f32": values, "f16": values.astype(np.float16), "bf16": to_bf16(values)}[source]
    exact = stored.astype(np.float32) if source != "bf16" else (stored.astype(np.uint32) << 16).view(np.float32)
    expected = gguf.quants.quantize(exact, gguf.GGMLQuantizationType[kind])
    assert _native.encode(stored, source, kind, COLS, 2) == expected.tobytes()


@pytest.mark.parametrize("kind", [*TYPES, "Q6_K"])
def test_threads_do_not_change_the_bytes(values: np.ndarray, kind: str) -> None:
    one = _native.encode(values, "F32", kind, COLS, 1)
    assert all(_native.encode(values, "F32", kind, COLS, threads) == one for threads in (0, 2, 7, 1000))


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_unaligned_memory_maps(values: np.ndarray, dtype: str, tmp_path: Path) -> None:
    stored = {"F32": values, "F16": values.astype(np.float16), "BF16": to_bf16(values)}[dtype]
    (tmp_path / "data").write_bytes(b"x" + stored.tobytes())
    with (tmp_path / "data").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with mapped, memoryview(mapped)[1:] as view:
        assert _native.encode(view, dtype, "Q8_0", COLS, 2) == _native.encode(stored, dtype, "Q8_0", COLS, 2)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize(("value", "said"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_first_bad_element_is_found(values: np.ndarray, value: float, said: str, threads: int) -> None:
    damaged = values.copy()
    damaged.reshape(-1)[[130_001, 300_000, 383_999]] = value
    with pytest.raises(ValueError, match=f"^element 130001 is {said}$"):
        _native.encode(damaged, "F32", "Q8_0", COLS, threads)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q6_K"])
def test_value_beyond_the_type_is_refused(values: np.ndarray, kind: str) -> None:
    damaged = values.copy()
    damaged[700, 3] = 1e30
    with pytest.raises(ValueError, match=rf"^element {700 * COLS + 3} is 1e\+30, too large for "):
        _native.encode(damaged, "F32", kind, COLS, 2)
    assert len(_native.encode(damaged, "F32", "BF16", COLS, 2)) == damaged.size * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("F32", "Q9_9", 256), "unknown ggml type 'Q9_9'"),
        (("I8", "Q8_0", 256), "cannot encode from i8"),
        (("F32", "IQ2_XXS", 256), "iq2_xxs needs an importance matrix"),
        (("F32", "Q8_K", 256), "cannot encode to q8_K"),
        (("F32", "I32", 256), "cannot encode to i32"),
        (("F32", "Q8_0", 250), "not whole rows of 250"),
        (("F32", "Q8_0", 16), "rows of 16 elements do not divide into blocks of 32"),
        (("F32", "Q8_0", 0), "not whole rows of 0"),
        (("F32", "Q8_0", -256), "not whole rows of -256"),
    ],
)
def test_bad_arguments(arguments: tuple[str, str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _native.encode(np.zeros((4, 256), np.float32), *arguments, 1)


def test_buffers_only() -> None:
    with pytest.raises(TypeError):
        _native.encode([1.0, 2.0], "F32", "F16", 2, 1)
    with pytest.raises((BufferError, ValueError)):
        _native.encode(np.zeros((4, 64), np.float32)[:, ::2], "F32", "F16", 32, 1)


def test_no_rows() -> None:
    assert _native.encode(b"", "F32", "Q8_0", 32, 2) == b""
