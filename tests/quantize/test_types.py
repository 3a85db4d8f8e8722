"""Each tensor gets the type, and each weight the bytes, that llama.cpp's own quantization gives it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray
from support.quantize_helpers import random_importance, stock_quantize, stock_types, stored_tensors, write_importance
from support.synthetic import make_checkpoint

from pytrimode.convert import ConversionError, TypeOptions, convert
from pytrimode.convert.gguf_input import GgufInput
from pytrimode.convert.type_selection import select_types
from pytrimode.gguf.header import read_gguf_header
from pytrimode.gguf.types import OUTPUT_TYPES, GgmlType

pytestmark = pytest.mark.slow

LAYERS = (26, 34, 40)
"""Those of the 3B, the 8B and the 14B checkpoint."""
NEEDS_IMATRIX = {"q2_k_s", "iq3_xs", "iq3_xxs", "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s"}
WITHOUT = [name for name in OUTPUT_TYPES if name not in NEEDS_IMATRIX]
Importance = dict[str, NDArray[np.float32]]


def stock_overrides(name: str) -> dict[str, object]:
    """What llama-quantize must be told so that its type is ours of this name."""
    overrides = [(pattern, kind.number) for pattern, kind in OUTPUT_TYPES[name].tensor_types]
    return {"tensor_types": overrides} if overrides else {}


def planned(checkpoint: Path, name: str, **options: object) -> dict[str, str]:
    result = convert(checkpoint, checkpoint / "unwritten.gguf", name, dry_run=True, **options)  # type: ignore[arg-type]
    return {tensor.name: tensor.kind.name for tensor in result.tensors}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, Path, Path, Importance]]:
    """By layers: a checkpoint with the real ratio of heads, its BF16 file, an importance matrix."""
    found = {}
    for layers in LAYERS:
        directory = tmp_path_factory.mktemp(f"layers-{layers}")
        checkpoint = make_checkpoint(
            directory / "model", layers=layers, hidden=256, ffn=256, heads=4, kv_heads=1, head_dim=64
        )
        source = convert(checkpoint, directory / "bf16.gguf", "bf16").path
        importance = random_importance(source)
        found[layers] = (checkpoint, source, write_importance(directory / "imatrix.gguf", importance), importance)
    return found


@pytest.mark.parametrize("layers", LAYERS)
def test_types_equal_those_of_libllama(layers: int, models: dict[int, tuple[Path, Path, Path, Importance]]) -> None:
    """All types, without and with an importance matrix, which changes some choices."""
    checkpoint, source, imatrix, importance = models[layers]
    for name, output in OUTPUT_TYPES.items():
        same = stock_overrides(name)
        if name not in NEEDS_IMATRIX:
            assert planned(checkpoint, name) == stock_types(source, output.file_type, **same), name
        expected = stock_types(source, output.file_type, imatrix=importance, **same)
        assert len(expected) == 3 + 9 * layers
        assert planned(checkpoint, name, imatrix=imatrix) == expected, name


def test_importance_matrix_changes_choices(models: dict[int, tuple[Path, Path, Path, Importance]]) -> None:
    checkpoint, _, imatrix, _ = models[26]
    assert planned(checkpoint, "iq4_xs") != planned(checkpoint, "iq4_xs", imatrix=imatrix)


@pytest.mark.parametrize(
    ("wishes", "stock"),
    [
        (TypeOptions(output_tensor_type=GgmlType.Q8_0), {"output_tensor_type": 8}),
        (TypeOptions(token_embedding_type=GgmlType.Q5_0), {"token_embedding_type": 6}),
        (TypeOptions(leave_output_tensor=True), {"quantize_output_tensor": False}),
        (TypeOptions(pure=True), {"pure": True}),
        (
            TypeOptions(tensor_types=((r"blk\.[0-3]\.ffn", GgmlType.Q8_0), ("ffn", GgmlType.Q3_K))),
            {"tensor_types": [(r"blk\.[0-3]\.ffn", 8), ("ffn", 11)]},
        ),
    ],
)  # fmt: skip
def test_wishes_are_met_as_by_libllama(
    wishes: TypeOptions, stock: dict[str, object], models: dict[int, tuple[Path, Path, Path, Importance]]
) -> None:
    checkpoint, source, _, _ = models[26]
    found = planned(checkpoint, "q4_k_m", types=wishes)
    assert found == stock_types(source, 15, **stock)
    assert found != planned(checkpoint, "q4_k_m")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, Importance]:
    """The same as `models`, of two layers and few rows: for types that take long to compute."""
    directory = tmp_path_factory.mktemp("small")
    checkpoint = make_checkpoint(directory / "model", hidden=256, ffn=256, heads=4, kv_heads=1, head_dim=64, vocab=400)
    source = convert(checkpoint, directory / "bf16.gguf", "bf16").path
    importance = random_importance(source)
    return checkpoint, source, write_importance(directory / "imatrix.gguf", importance), importance


@pytest.mark.parametrize("name", OUTPUT_TYPES)
def test_bytes_equal_those_of_libllama(name: str, small: tuple[Path, Path, Path, Importance], tmp_path: Path) -> None:
    """From the checkpoint in one step, against llama.cpp's quantization of a BF16 file."""
    checkpoint, source, imatrix, importance = small
    with_imatrix = name in NEEDS_IMATRIX or name in ("q4_k_m", "iq4_xs", "q4_0")
    options = {"imatrix": imatrix} if with_imatrix else {}
    ours = convert(checkpoint, tmp_path / "ours.gguf", name, threads=1, **options).path  # type: ignore[arg-type]
    output = OUTPUT_TYPES[name]
    used = {"imatrix": importance} if with_imatrix else {}
    stock_quantize(source, tmp_path / "stock.gguf", output.file_type, **used, **stock_overrides(name))
    expected, found = stored_tensors(tmp_path / "stock.gguf"), stored_tensors(ours)
    assert found.keys() == expected.keys()
    for tensor_name, tensor in expected.items():
        assert found[tensor_name] == tensor, tensor_name
    metadata = read_gguf_header(ours).metadata
    assert metadata["general.file_type"] == output.file_type
    assert metadata.get("quantize.imatrix.entries_count") == (len(importance) if with_imatrix else None)


@pytest.mark.parametrize("name", sorted(NEEDS_IMATRIX))
def test_types_of_few_bits_need_an_importance_matrix(
    name: str, small: tuple[Path, Path, Path, Importance], tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=f"^{name} needs an importance matrix: give --imatrix"):
        convert(small[0], tmp_path / "model.gguf", name)
    assert not list(tmp_path.iterdir())


def test_names_with_spaces_have_types_and_one_that_the_log_does_not_show_is_named(
    models: dict[int, tuple[Path, Path, Path, Importance]],
) -> None:
    with GgufInput(models[LAYERS[0]][1]) as file:
        tensors, metadata = file.tensors, file.metadata()

    def types_with(name: str) -> dict[str, GgmlType]:
        more = SimpleNamespace(name=name, shape=(256, 256), kind=GgmlType.BF16)
        return select_types(metadata, [*tensors, more], OUTPUT_TYPES["q4_0"], TypeOptions(), has_imatrix=False)

    assert types_with("blk.0.of two words.weight")["blk.0.of two words.weight"] is GgmlType.Q4_0
    with pytest.raises(ConversionError, match=r"names no type for the tensor 'blk\.0\.spaces '"):
        types_with("blk.0.spaces ")


def test_table_of_types_is_ggmls() -> None:
    known = {kind.name: (kind.value, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    for kind in GgmlType:
        # Older gguf-py lack the newest types, and have Q8_1 wrong.
        if kind.name in known and kind.name != "Q8_1":
            assert (kind.number, kind.block, kind.block_bytes) == known[kind.name], kind.name
    assert set(known) <= {kind.name for kind in GgmlType}
