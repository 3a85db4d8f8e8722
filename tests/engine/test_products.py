"""Our own products of weights on the CPU: every set of kernels gives the bits of the plain C++ one."""

from __future__ import annotations

import os
import subprocess
import sys

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize
from numpy.typing import NDArray

from pytrimode import _native

QUANTIZED = [
    "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4",
]  # fmt: skip
FLOATS = ["f32", "f16", "bf16"]
KERNELS = _native.product_kernels()
N_IN, N_OUT = 768, 72
"""Three super-blocks; the last tile is not full."""

Array = NDArray[np.float32]


def random_weights(type_name: str, n_in: int = N_IN, n_out: int = N_OUT) -> bytes:
    values = np.random.default_rng(3).normal(0.0, 0.05, (n_out, n_in)).astype(np.float32)
    values[1] *= 30.0
    values[2] = 0.0
    return _native.encode(values.tobytes(), "f32", type_name, n_in, 1)


def random_rows(n_rows: int, n_in: int = N_IN) -> Array:
    rows = np.random.default_rng(4).normal(0.0, 1.0, (n_rows, n_in)).astype(np.float32)
    rows[:, 5] *= 40.0  # an outlier, as activations have them
    rows[0, 64:96] = 0.0
    return rows


def packed(type_name: str, n_in: int = N_IN, n_out: int = N_OUT) -> _native.PackedWeight:
    return _native.PackedWeight(type_name, random_weights(type_name, n_in, n_out), n_in, n_out)


def dequantized(type_name: str) -> NDArray[np.float64]:
    data = np.frombuffer(random_weights(type_name), np.uint8).reshape(N_OUT, -1)
    return dequantize(data, gguf.GGMLQuantizationType[type_name.upper()]).astype(np.float64)


def rounded(x: Array) -> NDArray[np.float64]:
    """Rows as int8 with a scale per 32 columns, as ggml's Q8_0 stores them."""
    blocks = x.reshape(len(x), -1, 32).astype(np.float32)
    highest = np.abs(blocks).max(axis=2, keepdims=True)
    inverse = np.where(highest > 0, np.float32(127) / np.where(highest > 0, highest, 1), np.float32(0))
    q = np.rint(blocks * inverse.astype(np.float32))
    scale = (highest / np.float32(127)).astype(np.float16).astype(np.float64)
    return (q.astype(np.float64) * scale).reshape(x.shape)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("type_name", QUANTIZED)
def test_a_product_is_that_of_the_dequantized_weights(type_name: str, kernels: str) -> None:
    x = random_rows(5)
    expected = rounded(x) @ dequantized(type_name).T
    result = packed(type_name).multiply(x, kernels)
    assert np.abs(result - expected).max() <= 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("type_name", FLOATS)
def test_a_product_of_floats_does_not_round_the_activations(type_name: str, kernels: str) -> None:
    x = random_rows(5)
    expected = x.astype(np.float64) @ dequantized(type_name).T
    result = packed(type_name).multiply(x, kernels)
    assert np.abs(result - expected).max() <= 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("type_name", QUANTIZED + FLOATS)
def test_all_kernels_give_the_bits_of_the_plain_ones(type_name: str) -> None:
    weight, x = packed(type_name), random_rows(33)
    expected = weight.multiply(x, "plain")
    for kernels in KERNELS:
        assert weight.multiply(x, kernels).tobytes() == expected.tobytes(), kernels


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("type_name", QUANTIZED + FLOATS)
def test_the_bits_of_a_row_depend_on_no_other(type_name: str, kernels: str) -> None:
    weight, x = packed(type_name), random_rows(33)
    alone = np.concatenate([weight.multiply(x[i : i + 1], kernels) for i in range(33)])
    for n_rows in range(2, 34):
        assert weight.multiply(x[:n_rows], kernels).tobytes() == alone[:n_rows].tobytes(), n_rows
    assert weight.multiply(x[7:20], kernels).tobytes() == alone[7:20].tobytes()


@pytest.mark.parametrize("type_name", ["q8_0", "q4_k", "q6_k", "f16"])
def test_the_bits_do_not_depend_on_who_computes_which_tile(type_name: str) -> None:
    weight, x = packed(type_name, n_out=16 * 9 + 3), random_rows(9)
    for kernels in KERNELS:
        whole = weight.multiply(x, kernels)
        for piece in (1, 2, 4, 7):
            assert weight.multiply(x, kernels, piece).tobytes() == whole.tobytes()


@pytest.mark.parametrize("type_name", ["q8_0", "iq4_xs"])
def test_weights_of_the_highest_magnitude_do_not_overflow(type_name: str) -> None:
    """16-bit sums of two products are the narrowest place: 2 * 128 * 127."""
    size = {"q8_0": 34, "iq4_xs": 136}[type_name]
    blocks = np.zeros((N_OUT, N_IN // (32 if type_name == "q8_0" else 256), size), np.uint8)
    blocks[..., 1] = 0x3C  # a scale of 1.0
    blocks[..., 2:] = 0x80 if type_name == "q8_0" else 0
    weight = _native.PackedWeight(type_name, blocks.tobytes(), N_IN, N_OUT)
    x = np.where(random_rows(3) > 0, np.float32(127), np.float32(-127))
    x[0] = 127
    expected = weight.multiply(x, "plain")
    values = -128.0 if type_name == "q8_0" else -127.0 * -32.0
    assert expected[0, 0] == pytest.approx(values * 127 * N_IN)
    for kernels in KERNELS:
        assert weight.multiply(x, kernels).tobytes() == expected.tobytes(), kernels


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_activations_that_are_no_numbers_give_results_that_are_none(value: float) -> None:
    x = random_rows(3)
    x[1, 40] = value
    for kernels in KERNELS:
        result = packed("q4_k").multiply(x, kernels)
        assert not np.isfinite(result[1]).any()
        assert np.isfinite(result[[0, 2]]).all()


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-38, 1e-20, 1e20])
def test_tiny_and_large_activations_have_products(size: float) -> None:
    x = random_rows(3) * np.float32(size)
    weight = packed("q8_0")
    expected = weight.multiply(x, "plain")
    assert np.isfinite(expected).all()
    for kernels in KERNELS:
        assert weight.multiply(x, kernels).tobytes() == expected.tobytes(), kernels


@pytest.mark.parametrize("type_name", QUANTIZED + FLOATS)
def test_packed_weights_take_the_memory_of_the_original(type_name: str) -> None:
    data = random_weights(type_name, n_out=64)
    assert _native.PackedWeight(type_name, data, N_IN, 64).n_bytes <= 1.05 * len(data)


@pytest.mark.parametrize("type_name", QUANTIZED + FLOATS)
def test_products_are_near_those_of_ggml(type_name: str) -> None:
    """Which rounds activations with one scale per 256 columns for the K types: an outlier costs it precision."""
    data, x = random_weights(type_name), random_rows(4)
    expected = _native.GgmlProduct(type_name, data, N_IN, N_OUT, repack=False).multiply(x)
    result = packed(type_name).multiply(x, "plain")
    assert np.abs(result - expected).max() <= 0.05 * np.abs(expected).max()


def test_what_has_no_product() -> None:
    assert _native.has_product("q4_k", 256, 1)
    assert not _native.has_product("q4_k", 128, 16)
    assert not _native.has_product("iq2_xxs", 256, 16)
    with pytest.raises(ValueError, match="no product of iq2_xxs"):
        _native.PackedWeight("iq2_xxs", b"", 256, 16)
    with pytest.raises(ValueError, match="10 bytes are not 16 rows of 256"):
        _native.PackedWeight("q8_0", bytes(10), 256, 16)
    with pytest.raises(ValueError, match="not available here"):
        packed("q8_0").multiply(random_rows(1), "sse9")


def in_use(value: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTRIMODE_PRODUCTS"}
    if value is not None:
        environment["PYTRIMODE_PRODUCTS"] = value
    code = "from pytrimode import _native; print(_native.product_kernels_in_use())"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_an_environment_variable_chooses_the_kernels() -> None:
    assert in_use(None).stdout.strip() == (KERNELS[0] if len(KERNELS) > 1 else "None")
    assert in_use("off").stdout.strip() == "None"
    for kernels in KERNELS:
        assert in_use(kernels).stdout.strip() == kernels
    refused = in_use("sse9")
    assert refused.returncode != 0
    assert 'PYTRIMODE_PRODUCTS: "sse9" is not available here; available: off, ' in refused.stderr
