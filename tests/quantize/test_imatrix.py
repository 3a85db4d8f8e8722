"""trimode-quantize imatrix: the squares are those of the rows that really run, and the file is llama.cpp's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from support.convert_helpers import dequantize, files_in, read_metadata, read_tensors
from support.quantize_helpers import run_quantize, stock_quantize, stored_tensors
from support.synthetic import MASK, make_checkpoint

from pytrimode import TriMode, _native
from pytrimode.convert import convert
from pytrimode.convert.imatrix_file import ImportanceMatrix
from pytrimode.quantize import cli
from pytrimode.quantize.importance.calibration import calibrate, calibration_text

TOKENS = [1, *range(200, 240)]
START, BLOCK = 25, 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """F32, so that logits give the head's input back, with a strong drafter LoRA."""
    directory = tmp_path_factory.mktemp("imatrix")
    checkpoint = make_checkpoint(directory / "model", hidden=256, ffn=256, heads=4, kv_heads=1, head_dim=64,
                                 lora_rank=32, dtype="f32")  # fmt: skip
    return convert(checkpoint, directory / "model.gguf", "f32").path


def collector(model: Path) -> _native.Activations:
    lora = str(model.with_name("model-drafter-lora.gguf"))
    return _native.Activations(_native.Model(str(model), repack=False), lora_path=lora, n_ctx=256, n_threads=1)


def head_squares(model: Path, tokens: list[int], first: int, **options: object) -> NDArray[np.float64]:
    """Squares of what goes into the head, solved from the logits of our own engine."""
    head = dequantize(read_tensors(model)["output.weight"]).astype(np.float64)
    with TriMode(model, n_ctx=256, n_threads=1, type_k="f32", type_v="f32", flash_attn=False) as loaded:
        logits = loaded.logits(tokens, **options)[first:]  # type: ignore[arg-type]
    rows = np.linalg.lstsq(head, logits.T.astype(np.float64), rcond=None)[0].T
    return (rows**2).sum(axis=0)  # type: ignore[no-any-return]


def close(found: NDArray[np.float64], expected: NDArray[np.float64]) -> bool:
    return bool(np.abs(found / expected - 1).max() < 0.02)  # the collector's cache is F16


def test_first_layer_gets_the_normalized_embeddings(model: Path) -> None:
    tensors = read_tensors(model)
    rows = dequantize(tensors["token_embd.weight"])[TOKENS].astype(np.float64)
    rows /= np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-5)
    rows *= dequantize(tensors["blk.0.attn_norm.weight"])
    running = collector(model)
    running.causal(TOKENS)
    for name in ("attn_q", "attn_k", "attn_v"):
        squares, n_rows = running.sums()[f"blk.0.{name}.weight"]
        assert n_rows == len(TOKENS)
        np.testing.assert_allclose(squares, (rows**2).sum(axis=0), rtol=1e-4)


def test_causal_rows_are_those_of_the_engine(model: Path) -> None:
    running = collector(model)
    running.causal(TOKENS)
    squares, n_rows = running.sums()["output.weight"]
    assert n_rows == len(TOKENS)
    assert close(squares, head_squares(model, TOKENS, 0))


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_block_rows_are_those_of_the_engine(lora: bool, model: Path) -> None:
    """Both directions, after a causal prefix, with the drafter LoRA on these rows only."""
    block = [TOKENS[START], *[MASK] * (BLOCK - 1)]
    running = collector(model)
    running.causal(TOKENS)
    before, _ = running.sums()["output.weight"]
    running.block(block, START, lora)
    after, n_rows = running.sums()["output.weight"]
    assert n_rows == len(TOKENS) + BLOCK
    expected = {
        on: head_squares(model, TOKENS[:START] + block, START, block_start=START, lora=on) for on in (False, True)
    }
    causal = head_squares(model, TOKENS[:START] + block, START)
    assert close(after - before, expected[lora])
    assert not close(after - before, expected[not lora])
    assert not close(after - before, causal)


def test_a_block_leaves_nothing_in_the_cache(model: Path) -> None:
    plain, disturbed = collector(model), collector(model)
    plain.causal(TOKENS[:START])
    disturbed.causal(TOKENS[:START])
    disturbed.block([TOKENS[START], *[MASK] * 7], START, True)
    before = disturbed.sums()
    for running in (plain, disturbed):
        running.causal(TOKENS[START:], START)
    fresh = plain.sums()["output.weight"][0] - _first(model)
    np.testing.assert_allclose(disturbed.sums()["output.weight"][0] - before["output.weight"][0], fresh, rtol=1e-6)


def _first(model: Path) -> NDArray[np.float64]:
    running = collector(model)
    running.causal(TOKENS[:START])
    return running.sums()["output.weight"][0]


def test_rows_in_their_proportions(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "imatrix.gguf"
    result = calibrate(model, out, n_ctx=128, max_chunks=3, block_length=16, threads=1)
    assert result.causal_rows == 3 * 128
    # The first block of a chunk has nothing before it and is left out.
    assert (result.draft_rows, result.denoise_rows) == (3 * 4 * 16, 3 * 3 * 16)
    assert result.lora
    metadata = read_metadata(out)
    assert metadata["general.type"] == "imatrix"
    assert metadata["imatrix.datasets"] == ["calibration.txt"]
    assert (metadata["imatrix.chunk_count"], metadata["imatrix.chunk_size"]) == (3, 128)
    assert metadata["trimode.imatrix.draft_rows"] == 192
    tensors = read_tensors(out)
    assert tensors["blk.1.ffn_down.weight.counts"].data.item() == 3 * (128 + 7 * 16)
    assert tensors["blk.1.ffn_down.weight.in_sum2"].shape.tolist() == [256, 1]
    assert len(tensors) == 2 * 7 * 2


def test_block_rows_and_lora_matter(model: Path, tmp_path: Path) -> None:
    def entry(name: str, **options: object) -> NDArray[np.float32]:
        calibrate(model, tmp_path / name, n_ctx=128, max_chunks=2, threads=1, **options)  # type: ignore[arg-type]
        return ImportanceMatrix.read(tmp_path / name).entries["blk.1.ffn_up.weight"]

    both = entry("both")
    assert np.array_equal(both, entry("again"))
    assert not np.allclose(both, entry("causal", block_rows=0.0), rtol=0.01)
    assert not np.allclose(both, entry("plain", lora=False), rtol=1e-4)
    assert read_metadata(tmp_path / "causal")["trimode.imatrix.draft_rows"] == 0


@pytest.mark.slow
def test_stock_llama_cpp_quantizes_with_it(model: Path, tmp_path: Path) -> None:
    """The same bytes from both, other bytes than without it. (A type without grids, for which ggml takes seconds.)"""
    done = run_quantize("imatrix", model, "-o", tmp_path / "i.gguf", "--chunks", 2, "-c", 128, "-t", 1)
    assert done.returncode == 0, done.stderr
    assert "14 matrices, 2 chunks: 256 causal rows" in done.stdout
    entries = ImportanceMatrix.read(tmp_path / "i.gguf").entries
    ours = tmp_path / "ours.gguf"
    quantized = run_quantize(model, ours, "iq4_xs", "--imatrix", tmp_path / "i.gguf", "-t", 1)
    assert quantized.returncode == 0, quantized.stderr
    stock_quantize(model, tmp_path / "stock.gguf", 30, imatrix=entries)
    assert stored_tensors(ours) == stored_tensors(tmp_path / "stock.gguf")
    stock_quantize(model, tmp_path / "without.gguf", 30)
    assert stored_tensors(ours) != stored_tensors(tmp_path / "without.gguf")


def test_head_on_request(model: Path, tmp_path: Path) -> None:
    calibrate(model, tmp_path / "i.gguf", n_ctx=128, max_chunks=1, process_output=True, threads=1)
    assert "output.weight" in ImportanceMatrix.read(tmp_path / "i.gguf").entries


def test_text_of_ones_own(model: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("one two three " * 200)
    done = run_quantize("imatrix", model, "-f", tmp_path / "own.txt", "-o", tmp_path / "i.gguf", "-c", 64, "-t", 1)
    assert done.returncode == 0, done.stderr
    assert ImportanceMatrix.read(tmp_path / "i.gguf").datasets == ["own.txt"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{model}", "-f", "{dir}/short.txt"], "tokens, one chunk needs 512: give a longer text"),
        (["{model}", "-f", "{dir}/nowhere.txt"], "nowhere.txt: cannot be read"),
        (["{dir}/nowhere.gguf"], "nowhere.gguf: no such file"),
        (["{dir}/short.txt"], "not a GGUF file"),
        (["{model}", "-o", "{dir}/short.txt"], "exists already: give --force"),
    ],
)
def test_failures_leave_nothing_behind(arguments: list[str], said: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("hello")
    given = [argument.format(model=model, dir=tmp_path) for argument in arguments]
    out = [] if "-o" in given else ["-o", str(tmp_path / "out.gguf")]
    result = CliRunner().invoke(cli.main, ["imatrix", *given, *out])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert said in result.output
    assert files_in(tmp_path) == {"short.txt"}


def test_text_that_ships_is_varied() -> None:
    text = calibration_text()
    assert len(text) > 50_000
    assert all(sample in text for sample in ("def ", "SELECT", "Dächern", "中文", "Русский"))
