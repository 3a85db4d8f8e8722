"""File types whose weights our own products take: what is exact in them is exact by construction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytrimode import _native

PRODUCTS = _native.product_kernels_in_use() is not None
WITH_PRODUCTS = [
    "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl", "iq4_xs", "mxfp4",
]  # fmt: skip
"""Beside F32, F16 and Q8_0."""


def in_every_type_with_products(test: Callable[..., Any]) -> Callable[..., Any]:
    """Run a test for each of WITH_PRODUCTS as `outtype`; all but one of them are slow."""
    types = [t if t == "q4_k_m" else pytest.param(t, marks=pytest.mark.slow) for t in WITH_PRODUCTS]
    runs: Callable[..., Any] = pytest.mark.parametrize("outtype", types)(test)
    return pytest.mark.skipif(not PRODUCTS, reason="products of our own need AVX2")(runs)
