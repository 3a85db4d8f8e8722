"""The attention of the CPU by itself: right in every cache type, and each row's bits its own."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from pytrimode import _native

N_HEAD, N_HEAD_KV, HEAD_DIM = 8, 2, 64
N_CELLS = 1216  # 19 pages: two whole stretches and a part of one
KERNELS = _native.attention_kernels()
CACHE_TYPES = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]
PAGES = list(range(N_CELLS // 64))

Row = tuple[int, int, int, int]
"""Of which sequence; sees cells [0, seen) of it, and [begin, end)."""


def random_cells(seed: int, n_cells: int = N_CELLS, n_head_kv: int = N_HEAD_KV, head_dim: int = HEAD_DIM) -> NDArray:
    return np.random.default_rng(seed).normal(0, 1, (n_cells, n_head_kv * head_dim)).astype(np.float32)


def stored(cells: NDArray, cache_type: str) -> bytes:
    if cache_type == "f32":
        return cells.tobytes()
    return bytes(_native.encode(cells.tobytes(), "f32", cache_type, cells.shape[1], 1, None))


def read_back(data: bytes, cache_type: str, width: int) -> NDArray:
    """What the stored bytes mean, as gguf-py has it."""
    kind = gguf.GGMLQuantizationType[cache_type.upper()]
    rows = np.frombuffer(data, np.uint8).reshape(-1, gguf.quant_shape_to_byte_shape((1, width), kind)[1])
    return gguf.quants.dequantize(rows, kind).reshape(-1, width).astype(np.float64)


def queries(n: int, n_head: int = N_HEAD, head_dim: int = HEAD_DIM) -> NDArray:
    return np.random.default_rng(7).normal(0, 1, (n, n_head, head_dim)).astype(np.float32)


def reference(
    q: NDArray, k: NDArray, v: NDArray, pages: list[list[int]], rows: list[Row], n_head_kv: int = N_HEAD_KV
) -> NDArray:
    """softmax(q k^T / sqrt(head_dim)) v in float64, cell by cell of what each row sees."""
    out = np.zeros(q.shape)
    group, head_dim = q.shape[1] // n_head_kv, q.shape[2]
    for i, (sequence, seen, begin, end) in enumerate(rows):
        places = [*range(seen), *range(max(begin, seen), end)]
        cells = [pages[sequence][p // 64] * 64 + p % 64 for p in places]
        for head in range(q.shape[1]):
            columns = slice(head // group * head_dim, (head // group + 1) * head_dim)
            scores = k[cells, columns] @ q[i, head].astype(np.float64) / np.sqrt(head_dim)
            weights = np.exp(scores - scores.max())
            out[i, head] = weights @ v[cells, columns] / weights.sum()
    return out


def probe(cache_type: str = "f16", n_threads: int = 1, kernel: str = "", **options: int) -> _native.AttentionProbe:
    shape = {"n_head": N_HEAD, "n_head_kv": N_HEAD_KV, "head_dim": HEAD_DIM, "n_cells": N_CELLS} | options
    cells = shape.pop("n_cells"), shape["n_head_kv"], shape["head_dim"]
    return _native.AttentionProbe(
        stored(random_cells(1, *cells), cache_type), stored(random_cells(2, *cells), cache_type),
        type_k=cache_type, type_v=cache_type, n_threads=n_threads, kernel=kernel, **shape,
    )  # fmt: skip


def causal(n: int, last: int) -> list[Row]:
    """n rows behind one another, of which the last sees `last` cells."""
    return [(0, last - n + 1 + i, 0, 0) for i in range(n)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cache_type", CACHE_TYPES)
def test_attention_is_that_of_float64(cache_type: str, kernel: str) -> None:
    """Few rows and many, at the beginning of a text, within a page, and across stretches."""
    data = [stored(random_cells(seed), cache_type) for seed in (1, 2)]
    k, v = (read_back(d, cache_type, N_HEAD_KV * HEAD_DIM) for d in data)
    here = probe(cache_type, kernel=kernel)
    for rows in (causal(1, 1), causal(1, 700), causal(3, 65), causal(40, 1100)):
        q = queries(len(rows))
        expected = reference(q, k, v, [PAGES], rows)
        assert np.abs(here.run(q, [PAGES], rows) - expected).max() <= 2e-6


@pytest.mark.parametrize(
    ("n_head", "n_head_kv", "head_dim"), [(4, 4, 32), (32, 8, 128), (6, 1, 80), (3, 3, 40), (1, 1, 8), (70, 1, 16)]
)
def test_other_shapes(n_head: int, n_head_kv: int, head_dim: int) -> None:
    """Head sizes that are whole lanes and others, groups of one head and of more than a tile has."""
    for cache_type in ("f16", "f32"):
        shape = {"n_head": n_head, "n_head_kv": n_head_kv, "head_dim": head_dim, "n_cells": 576}
        k, v = (
            read_back(stored(random_cells(s, 576, n_head_kv, head_dim), cache_type), cache_type, n_head_kv * head_dim)
            for s in (1, 2)
        )
        rows = causal(5, 570)
        q = queries(5, n_head, head_dim)
        for kernel in KERNELS:
            out = probe(cache_type, kernel=kernel, **shape).run(q, [PAGES[:9]], rows)
            assert np.abs(out - reference(q, k, v, [PAGES[:9]], rows, n_head_kv)).max() <= 2e-6


def crowd() -> tuple[list[list[int]], list[Row]]:
    """33 rows: a prompt, single rows, blocks that see themselves and branches, of sequences at scattered pages."""
    order = np.random.default_rng(3).permutation(PAGES).tolist()
    pages = [order[:11], order[11:12], order[12:14], order[14:], order[:10] + order[18:]]
    rows = [(0, 650 + i, 0, 0) for i in range(18)] + [(1, 1, 0, 0), (2, 100, 0, 0)]
    rows += [(3, 120, 0, 0)] * 4  # a block
    rows += [(4, 630 + i, 0, 0) for i in range(4)] + [(4, 632, 634, 639)] * 5  # a run, and a branch behind its third
    return pages, rows


def test_rows_see_their_own_cells_only() -> None:
    pages, rows = crowd()
    k, v = (read_back(stored(random_cells(s), "f16"), "f16", N_HEAD_KV * HEAD_DIM) for s in (1, 2))
    q = queries(len(rows))
    assert len(rows) == 33
    for n_threads in (1, 2):
        out = probe(n_threads=n_threads).run(q, pages, rows)
        assert np.abs(out - reference(q, k, v, pages, rows)).max() <= 2e-6


@pytest.mark.parametrize("cache_type", ["f16", "q8_0", "q5_1"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_row_has_the_same_bits_alone_and_in_company(cache_type: str, kernel: str) -> None:
    """And with any number of threads, and with every instruction set."""
    pages, rows = crowd()
    q = queries(len(rows))
    expected = probe(cache_type).run(q, pages, rows)
    fused = [name for name in KERNELS if name != "unfused"]
    assert kernel not in fused or np.array_equal(probe(cache_type, kernel=kernel).run(q, pages, rows), expected)
    if kernel == "plain":
        return  # the same loops for all numbers of rows, and slow ones
    expected = probe(cache_type, kernel=kernel).run(q, pages, rows)
    for n_threads in (1, 2, 4):
        here = probe(cache_type, n_threads, kernel)
        assert np.array_equal(here.run(q, pages, rows), expected)
        for i, row in enumerate(rows):
            assert np.array_equal(here.run(q[i : i + 1], pages, [row])[0], expected[i])


def test_a_prompt_has_the_same_bits_however_it_is_cut() -> None:
    rows = causal(300, 1000)
    q = queries(300)
    here = probe(n_threads=2)
    whole = here.run(q, [PAGES], rows)
    for size in (1, 7, 64, 100):
        parts = [here.run(q[i : i + size], [PAGES], rows[i : i + size]) for i in range(0, 300, size)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_bits_do_not_depend_on_where_the_pages_lie() -> None:
    k, v = random_cells(1), random_cells(2)
    rows, q = causal(20, 1190), queries(20)
    order = np.random.default_rng(5).permutation(PAGES)

    def attend(pages: list[int]) -> NDArray:
        moved = [np.empty_like(k), np.empty_like(v)]
        for i, page in enumerate(pages):
            for to, of in zip(moved, (k, v), strict=True):
                to[page * 64 : page * 64 + 64] = of[i * 64 : i * 64 + 64]
        there = _native.AttentionProbe(
            stored(moved[0], "f16"), stored(moved[1], "f16"), type_k="f16", type_v="f16", n_head=N_HEAD,
            n_head_kv=N_HEAD_KV, head_dim=HEAD_DIM,
        )  # fmt: skip
        return there.run(q, [pages], rows)

    assert np.array_equal(attend(PAGES), attend(order.tolist()))


def test_what_lies_in_cells_that_nobody_sees_does_not_matter() -> None:
    """Not even where a cache holds infinities and NaN there."""
    dirty = [random_cells(s) for s in (1, 2)]
    for cells in dirty:
        cells[100:], cells[101::2] = np.inf, np.nan
    for rows in (causal(1, 100), causal(20, 100)):
        q = queries(len(rows))
        there = _native.AttentionProbe(
            stored(dirty[0], "f32"), stored(dirty[1], "f32"), type_k="f32", type_v="f32", n_head=N_HEAD,
            n_head_kv=N_HEAD_KV, head_dim=HEAD_DIM,
        )  # fmt: skip
        assert np.array_equal(there.run(q, [PAGES], rows), probe("f32").run(q, [PAGES], rows))


def test_large_scores_neither_overflow_nor_vanish() -> None:
    """Scores of +-3,000, and a row all of whose scores are equal."""
    here = probe("f32")
    q = queries(4) * 500
    q[3] = 0
    rows = causal(4, 1000)
    expected = reference(q, random_cells(1).astype(np.float64), random_cells(2).astype(np.float64), [PAGES], rows)
    assert np.abs(here.run(q, [PAGES], rows) - expected).max() <= 1e-3
    assert np.abs(here.run(q, [PAGES], rows)[3] - expected[3]).max() <= 1e-6


def test_nan_stays_visible() -> None:
    q = queries(2)
    q[1, 0, 0] = np.nan
    out = probe().run(q, [PAGES], causal(2, 700))
    assert np.isfinite(out[0]).all()
    assert np.isnan(out[1, 0]).all()
    assert np.isfinite(out[1, 1:]).all()


def test_wrong_input_is_refused() -> None:
    here = probe()
    with pytest.raises(ValueError, match="must see some cells"):
        here.run(queries(1), [PAGES], [(0, N_CELLS + 1, 0, 0)])
    with pytest.raises(ValueError, match="page 19 is not one of 19"):
        here.run(queries(1), [[19]], [(0, 1, 0, 0)])
    with pytest.raises(ValueError, match="none of that name"):
        probe(kernel="avx1024")


@pytest.mark.parametrize("cache_type", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_run_beside_a_chain_has_the_bits_of_one_that_follows(cache_type: str, kernel: str) -> None:
    """Its cells lie elsewhere, as `SidePlaces` has them: as far into the lanes, in the same stretch of 512."""
    others = 0
    for first, n_chain, pos, n in ((40, 9, 45, 6), (130, 20, 131, 17), (470, 8, 474, 3), (900, 30, 910, 12)):
        taken = _native.SidePlaces(first, n_chain, N_CELLS)
        place, found = taken.take(pos, n)
        assert (place - pos) % 16 == 0 and place >= first + n_chain and (place + found - 1) // 512 == pos // 512
        assert taken.extent == place + found - first
        q = queries(n_chain + found)
        plain = [random_cells(seed) for seed in (1, 2)]
        for cells in plain:
            cells[place : place + found] = cells[pos : pos + found]
        beside = [cells.copy() for cells in plain]
        for cells in beside:
            cells[pos : pos + found] = random_cells(9)[:found]  # the chain's own
        here, there = (
            _native.AttentionProbe(
                *(stored(cells, cache_type) for cells in both), type_k=cache_type, type_v=cache_type, n_head=N_HEAD,
                n_head_kv=N_HEAD_KV, head_dim=HEAD_DIM, kernel=kernel,
            )
            for both in (plain, beside)
        )  # fmt: skip
        chain = [(0, first + 1 + i, 0, 0) for i in range(n_chain)]
        expected = here.run(q, [PAGES], chain + [(0, pos + 1 + i, 0, 0) for i in range(found)])[n_chain:]
        run = [(0, pos, place, place + 1 + i) for i in range(found)]
        assert np.array_equal(there.run(q, [PAGES], chain + run)[n_chain:], expected)
        assert np.array_equal(there.run(q[n_chain:], [PAGES], run), expected), "and without the chain"
        for cells in beside:  # one place farther it adds up in another order
            cells[place + 1 : place + 1 + found] = cells[place : place + found].copy()
        moved = _native.AttentionProbe(
            *(stored(cells, cache_type) for cells in beside), type_k=cache_type, type_v=cache_type, n_head=N_HEAD,
            n_head_kv=N_HEAD_KV, head_dim=HEAD_DIM, kernel=kernel,
        )  # fmt: skip
        others += not np.array_equal(
            moved.run(q[n_chain:], [PAGES], [(0, pos, place + 1, place + 2 + i) for i in range(found)]), expected
        )
    assert others > 0, "the places must matter, or equality proves nothing"


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_lies_in_cells_that_no_row_sees_may_be_anything(kernel: str) -> None:
    """Between a chain and the runs beside it are cells that another request may have left."""
    rows = [*causal(3, 103), (0, 101, 117, 118), (0, 101, 117, 119)]
    q = queries(len(rows))
    expected = probe("f32", kernel=kernel).run(q, [PAGES], rows)
    cells = [random_cells(seed) for seed in (1, 2)]
    for its in cells:
        its[103:117] = its[119:] = np.nan
    here = _native.AttentionProbe(
        *(stored(its, "f32") for its in cells), type_k="f32", type_v="f32", n_head=N_HEAD, n_head_kv=N_HEAD_KV,
        head_dim=HEAD_DIM, kernel=kernel,
    )  # fmt: skip
    assert np.array_equal(here.run(q, [PAGES], rows), expected)


def test_a_run_that_would_leave_its_stretch_is_cut_or_has_no_places() -> None:
    """Where the bits would be others."""
    places = _native.SidePlaces(470, 20, 1024)
    assert places.take(475, 30) == (491, 21), "up to place 512"
    assert places.take(480, 5) == (-1, 0), "512 and what follows are of the next stretch"
    assert places.take(509, 5) == (-1, 0)
    assert _native.SidePlaces(40, 5, 60).take(41, 9) == (57, 3), "no more places than the request may have"
    assert _native.SidePlaces(40, 5, 50).take(41, 9) == (-1, 0)
