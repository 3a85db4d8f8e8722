"""Files of vision towers that lack something, or are damaged: a message that names it, never the end of the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from support.convert_helpers import read_tensors
from support.vlm import picture

from pytrimode import _native

Change = Callable[[str, np.ndarray], np.ndarray | None]


@pytest.fixture(scope="module")
def mmproj(vlm_gguf: Path) -> Path:
    return vlm_gguf.with_name("vlm-mmproj.gguf")


def rewrite(source: Path, out: Path, *, keys: dict[str, object] | None = None, tensors: Change | None = None) -> Path:
    """A copy with changed keys (None: without) and tensors (None: without)."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, str((keys or {}).get("general.architecture", "clip")))
    changes = keys or {}
    values = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    for name, value in (values | changes).items():
        if name == "general.architecture" or value is None:
            continue
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
        else:
            writer.add_string(name, str(value))
    for name, tensor in read_tensors(source).items():
        data = tensors(name, tensor.data) if tensors else tensor.data
        if data is not None:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def refusal(path: Path) -> str:
    with pytest.raises(RuntimeError) as caught:
        _native.Tower(str(path))
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def test_an_unchanged_copy_loads(mmproj: Path, tmp_path: Path) -> None:
    """A test of the tests."""
    copy = rewrite(mmproj, tmp_path / "a.gguf")
    image = picture(60, 60)
    assert np.array_equal(_native.Tower(str(copy)).encode(image, 1400), _native.Tower(str(mmproj)).encode(image, 1400))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("general.architecture", "mistral3", "expected clip, found mistral3: not a vision tower"),
        ("clip.has_vision_encoder", None, "the file has no vision tower"),
        ("clip.has_vision_encoder", False, "the file has no vision tower"),
        ("clip.projector_type", "mlp", "expected pixtral, found mlp"),
        ("clip.projector_type", None, "expected pixtral, found none"),
        ("clip.use_silu", None, "expected one of clip.use_silu and clip.use_gelu to be true, found none"),
        ("clip.use_gelu", True, "to be true, found both"),
        ("clip.vision.patch_size", 16, "clip.vision.patch_size: expected 14, found 16"),
        ("clip.vision.spatial_merge_size", None, "metadata key clip.vision.spatial_merge_size is missing"),
        ("clip.vision.spatial_merge_size", 1, "clip.vision.spatial_merge_size: expected 2, found 1"),
        ("clip.vision.embedding_length", None, "metadata key clip.vision.embedding_length is missing"),
        ("clip.vision.embedding_length", "64", "metadata key clip.vision.embedding_length is missing"),
        ("clip.vision.embedding_length", 0, "expected a whole number from 1 to 262144, found 0"),
        ("clip.vision.embedding_length", 4_000_000_000, "found 4e+09"),
        ("clip.vision.embedding_length", 64.5, "found 64.5"),
        ("clip.vision.embedding_length", 128, "tensor v.patch_embd.weight has shape [14, 14, 3, 64], expected"),
        (
            "clip.vision.feed_forward_length",
            64,
            "tensor v.blk.0.ffn_gate.weight has shape [64, 128], expected [64, 64]",
        ),
        ("clip.vision.block_count", 500, "500 layers, more than 25 tensors can make"),
        ("clip.vision.block_count", 1, "tensor v.blk.1.ln1.weight does not belong to this architecture"),
        ("clip.vision.attention.head_count", 3, "3 heads do not divide a width of 64"),
        ("clip.vision.attention.head_count", 32, "32 heads do not divide a width of 64 into multiples of 4"),
        ("clip.vision.image_size", 27, "clip.vision.image_size: expected at least 28, found 27"),
        ("clip.vision.projection_dim", 32, "tensor mm.1.weight has shape [64, 64], expected [64, 32]"),
        ("clip.vision.attention.layer_norm_epsilon", None, "layer_norm_epsilon is missing"),
        ("clip.vision.attention.layer_norm_epsilon", -1.0, "expected a number between 0 and 1, found -1"),
        ("clip.vision.attention.layer_norm_epsilon", float("nan"), "expected a number between 0 and 1, found"),
        ("clip.vision.image_mean", None, "clip.vision.image_mean: expected an array of three 32-bit floats"),
        ("clip.vision.image_mean", [0.5, 0.5], "clip.vision.image_mean: expected an array of three 32-bit floats"),
        ("clip.vision.image_mean", [1, 2, 3], "clip.vision.image_mean: expected an array of three 32-bit floats"),
        ("clip.vision.image_mean", 0.5, "clip.vision.image_mean: expected an array of three 32-bit floats"),
        ("clip.vision.image_std", [0.2, 0.0, 0.2], "clip.vision.image_std: 0 is out of range"),
    ],
)
def test_keys(key: str, value: object, said: str, mmproj: Path, tmp_path: Path) -> None:
    assert said in refusal(rewrite(mmproj, tmp_path / "a.gguf", keys={key: value}))


def test_every_tensor_is_needed(mmproj: Path, tmp_path: Path) -> None:
    """But the one that only llama.cpp reads. libmtmd ends the process without some of them."""
    for name in read_tensors(mmproj):
        part = rewrite(mmproj, tmp_path / "a.gguf", tensors=lambda n, data, name=name: None if n == name else data)  # type: ignore[misc]
        if name == "v.token_embd.img_break":
            assert _native.Tower(str(part)).encode(picture(28, 28), 1400).shape == (1, 64)
        else:
            assert f"tensor {name} is missing" in refusal(part) or "tensors can make" in refusal(part)


def test_shapes_and_types(mmproj: Path, tmp_path: Path) -> None:
    def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> str:
        out = tmp_path / "a.gguf"
        return refusal(rewrite(mmproj, out, tensors=lambda n, data: change(data) if n == name else data))

    assert "mm.2.weight has shape [64, 63], expected [64, 64]" in changed("mm.2.weight", lambda d: d[:63].copy())
    assert "v.pre_ln.weight is f16, expected f32" in changed("v.pre_ln.weight", lambda d: d.astype(np.float16))
    assert "v.patch_embd.weight is f16, expected f32" in changed("v.patch_embd.weight", lambda d: d.astype(np.float16))
    assert "mm.1.weight is i32, expected f32, f16, bf16 or q8_0" in changed("mm.1.weight", lambda d: d.view(np.int32))
    twice = np.ascontiguousarray
    assert "v.blk.0.attn_q.weight has shape [64, 64, 2]" in changed("v.blk.0.attn_q.weight", lambda d: twice([d, d]))


def test_unknown_tensors(mmproj: Path, tmp_path: Path) -> None:
    reader = read_tensors(mmproj)
    names = iter(reader)
    first = next(names)

    def rename(name: str, data: np.ndarray) -> np.ndarray:
        return data

    writer_path = rewrite(mmproj, tmp_path / "a.gguf", tensors=rename)
    data = writer_path.read_bytes().replace(b"v.token_embd.img_break", b"v.token_embd.img_other")
    writer_path.write_bytes(data)
    assert first
    assert "tensor v.token_embd.img_other does not belong to this architecture" in refusal(writer_path)


def test_values_that_are_not_finite(mmproj: Path, tmp_path: Path) -> None:
    path = rewrite(mmproj, tmp_path / "a.gguf", tensors=lambda n, d: d * np.float32("nan") if n == "mm.1.weight" else d)
    with pytest.raises(RuntimeError, match="values that are not finite: its file is damaged"):
        _native.Tower(str(path)).encode(picture(56, 56), 1400)


def test_other_files(vlm_gguf: Path, tmp_path: Path) -> None:
    assert "expected clip, found mistral3" in refusal(vlm_gguf)
    assert "cannot be opened" in refusal(tmp_path / "missing.gguf")
    (tmp_path / "text.gguf").write_text("no model")
    assert "not a GGUF file" in refusal(tmp_path / "text.gguf")


FUZZ = """
import sys
import numpy as np
from pytrimode import _native
data = open(sys.argv[1], "rb").read()
rng = np.random.default_rng(int(sys.argv[3]))
image = np.zeros((56, 28, 3), np.uint8)
loaded = 0
for i in range(int(sys.argv[4])):
    bad = bytearray(data)
    if i % 4 == 0:
        bad = bad[: rng.integers(1, len(bad))]
    for place in rng.integers(0, 3000 if i % 2 else len(bad), rng.integers(1, 4)):
        if place < len(bad):
            bad[place] = int(rng.integers(0, 256))
    open(sys.argv[2], "wb").write(bad)
    try:
        _native.Tower(sys.argv[2], n_threads=1).encode(image, 1400)
        loaded += 1
    except (RuntimeError, ValueError):
        pass
print("survived", loaded)
"""


def test_damage_anywhere(mmproj: Path, tmp_path: Path) -> None:
    """Cut, and with bytes changed in header and data: in a process of its own, which must live."""
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, mmproj, tmp_path / "bad.gguf", "1", "400"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("survived"), f"{done.returncode} {done.stderr[-500:]}"
