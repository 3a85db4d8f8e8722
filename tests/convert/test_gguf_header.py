"""Headers of GGUF files: what gguf-py reads is read; what a stranger made up is refused by name, in little memory."""

from __future__ import annotations

import random
import resource
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import gguf
import pytest
from gguf.constants import Keys

from pytrimode import _native
from pytrimode.gguf import keys
from pytrimode.gguf.header import MAX_HEADER_BYTES, read_gguf_header
from pytrimode.gguf.types import GgmlType

U8, U32, BOOL, STRING, ARRAY = 0, 4, 7, 8, 9
F32, Q8_0 = 0, 8


def text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def value(key: bytes, kind: int, data: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + data


def tensor(name: bytes, shape: Sequence[int], kind: int = F32, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def header(
    values: Sequence[bytes] = (), tensors: Sequence[bytes] = (), *, n_values: int = -1, n_tensors: int = -1
) -> bytes:
    counts = (
        len(tensors) if n_tensors < 0 else n_tensors,
        len(values) if n_values < 0 else n_values,
    )
    return b"GGUF" + struct.pack("<IQQ", 3, *counts) + b"".join(values) + b"".join(tensors)


def refusal(path: Path, data: bytes, size: int = 4096) -> str:
    """What is said of a file with this beginning, padded with a hole to `size` bytes."""
    path.write_bytes(data)
    if size > len(data):
        with path.open("r+b") as file:
            file.truncate(size)
    with pytest.raises(ValueError) as caught:
        read_gguf_header(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file by gguf-py, with a value of each type."""
    path = tmp_path_factory.mktemp("header") / "model.gguf"
    writer = gguf.GGUFWriter(path, "mistral3")
    for kind, number in {"uint8": 1, "int8": -1, "uint16": 2, "int16": -2, "uint32": 3, "int32": -3, "uint64": 4,
                         "int64": -4, "float32": 0.5, "float64": 0.25, "bool": True}.items():  # fmt: skip
        getattr(writer, f"add_{kind}")(f"a.{kind}", number)
    writer.add_string("a.string", "Grüße")
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_array("a.texts", ["", "b", "é" * 200_000])
    writer.add_string("a.last", "end")
    for name, shape in (
        ("vector", (32,)),
        ("matrix", (3, 64)),
        ("column", (5, 1)),
        ("row", (1, 5)),
        ("cube", (2, 3, 4)),
    ):
        writer.add_tensor(name, gguf.np.arange(gguf.np.prod(shape), dtype="<f4").reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_values_and_tensors_are_those_of_gguf_py(model: Path) -> None:
    ours, theirs = read_gguf_header(model), gguf.GGUFReader(model)
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for name, field in fields.items():
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        assert ours.metadata[name] == (("array", 3) if is_array else field.contents()), name
    found = [(t.name, t.shape, t.type, ours.data_start + t.offset, t.n_bytes) for t in ours.tensors]
    assert found == [
        (t.name, tuple(map(int, t.shape)), t.tensor_type.name, t.data_offset, t.n_bytes) for t in theirs.tensors
    ]


def test_spans_hold_the_encoded_values(model: Path) -> None:
    begin, end = read_gguf_header(model).spans["a.string"]
    assert model.read_bytes()[begin:end] == struct.pack("<I", STRING) + text("Grüße".encode())


@pytest.mark.parametrize(
    ("values", "tensors", "said"),
    [
        ([value(b"", U32, bytes(4))], [], "key 1 of 1 is '', which is no name"),
        ([value(b"a\0b", U32, bytes(4))], [], "key 1 of 1 is 'a\\x00b', which is no name"),
        ([value(b"a", U32, bytes(4))] * 2, [], "key a is there twice"),
        ([value(b"a", 99, b"")], [], "unknown value type 99 at byte 33, in the value of a"),
        ([value(b"a", ARRAY, struct.pack("<IQ", ARRAY, 1))], [], "unknown array type 9 at byte 37, in the value of a"),
        ([value(b"a", STRING, struct.pack("<Q", 1 << 40))], [], "the header ends at byte 4096, in the value of a"),
        ([value(b"a", ARRAY, struct.pack("<IQ", U8, 1 << 63))], [], "the header ends at byte 4096, in the value of a"),
        ([value(b"a", ARRAY, struct.pack("<IQ", STRING, 1 << 63))], [], "the header ends at byte 4096"),
        ([value(b"general.alignment", BOOL, b"\1")], [], "general.alignment is True, which is no power of 2"),
        ([value(b"general.alignment", U32, struct.pack("<I", 48))], [], "general.alignment is 48"),
        ([value(b"general.alignment", U32, bytes(4))], [], "general.alignment is 0"),
        ([value(b"general.alignment", STRING, text(b"x"))], [], "general.alignment is 'x'"),
        ([], [tensor(b"", (32,))], "the name '' in the description of tensor 1 of 1"),
        ([], [tensor(b"a\0", (32,))], "the name 'a\\x00' in the description of tensor 1 of 1"),
        ([], [tensor(b"x" * 64, (32,))], "a name of 64 bytes in the description of tensor 1 of 1, at most 63"),
        ([], [tensor(b"a", (1,) * 5)], "tensor a has 5 dimensions, at most 4 are possible"),
        ([], [tensor(b"a", (4, 0))], "tensor a has no elements: its shape is [4, 0]"),
        ([], [tensor(b"a", (2**63, 2**63))], "tensor a ends at byte"),
        ([], [tensor(b"a", (33,), Q8_0)], "tensor a has rows of 33 elements, Q8_0 has blocks of 32"),
        ([], [tensor(b"a", (), Q8_0)], "tensor a has rows of 1 elements, Q8_0 has blocks of 32"),
        ([], [tensor(b"a", (4,), offset=7)], "tensor a begins at byte 7, no multiple of 32"),
        ([], [tensor(b"a", (4,)), tensor(b"b", (4,)), tensor(b"a", (4,))], "tensor a is there twice"),
    ],
)
def test_impossible_headers_are_refused_by_name(
    tmp_path: Path, values: list[bytes], tensors: list[bytes], said: str
) -> None:
    assert f"damaged GGUF: {said}" in refusal(tmp_path / "model.gguf", header(values, tensors))


@pytest.mark.parametrize("counts", [{"n_tensors": 2**62}, {"n_values": 2**64 - 1}, {"n_values": 100_001}])
def test_counts_beyond_reason_are_refused(tmp_path: Path, counts: dict[str, int]) -> None:
    assert "it claims" in refusal(tmp_path / "model.gguf", header(**counts))


@pytest.mark.parametrize(
    "beginning",
    [
        header([value(b"a", STRING, struct.pack("<Q", 299 << 20))]),
        header([value(b"a", ARRAY, struct.pack("<IQ", U8, 299 << 20))]),
        header([value(b"a", ARRAY, struct.pack("<IQ", STRING, 30_000_000))]),
    ],
    ids=["text", "bytes", "texts"],
)
def test_a_header_without_end_is_refused_in_little_time_and_memory(tmp_path: Path, beginning: bytes) -> None:
    peak, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    said = refusal(tmp_path / "model.gguf", beginning, 300 << 20)
    assert f"the header is longer than {MAX_HEADER_BYTES} bytes, in the value of a" in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 20 << 10
    assert time.process_time() - started < 5


@pytest.mark.slow
def test_a_file_cut_anywhere_is_refused(model: Path, tmp_path: Path) -> None:
    data, cut = model.read_bytes(), tmp_path / "cut.gguf"
    where = read_gguf_header(model)
    texts = range(*where.spans["a.texts"])
    for size in (*range(texts.start + 40), *texts[40::40_000], *range(texts.stop - 40, len(data))):
        said = refusal(cut, data[:size], 0)
        assert "truncated" in said or (size < 4 and "not a GGUF file" in said), (size, said)


def test_damaged_bytes_give_a_header_or_a_refusal(model: Path, tmp_path: Path) -> None:
    rng, path = random.Random(7), tmp_path / "damaged.gguf"
    long, short = ("é" * 200_000).encode(), b"short"
    data = model.read_bytes().replace(text(long), text(short)) + bytes(64)
    path.write_bytes(data)
    assert len(read_gguf_header(path).tensors) == 5
    refused = 0
    for _ in range(2000):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(4, 1200)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        path.write_bytes(damaged)
        try:
            read_gguf_header(path)
        except ValueError:
            refused += 1
    assert 200 < refused < 1990


def test_keys_are_those_of_gguf_py() -> None:
    """All but this project's own and what llama-quantize writes of an importance matrix, which gguf-py has not."""

    def spelled(group: type) -> set[str]:
        found = {v for k, v in vars(group).items() if isinstance(v, str) and not k.startswith("_")}
        return found.union(*(spelled(inner) for inner in vars(group).values() if isinstance(inner, type)))

    known = {key.replace("{arch}", keys.ARCHITECTURE) for key in spelled(Keys)}
    ours = {key for name, key in vars(keys).items() if name.isupper() and isinstance(key, str)} - {keys.ARCHITECTURE}
    unknown = {key for key in ours - known if not key.startswith(("trimode.", "quantize.imatrix."))}
    assert unknown == set()
    assert len(ours & known) >= 55


def test_types_are_those_of_ggml() -> None:
    found = {}
    for number in range(256):
        try:
            name, block, block_bytes = _native.tensor_type(number)
        except ValueError:
            continue
        found[name.upper()] = (number, block, block_bytes)
    assert found == {kind.name: (kind.number, kind.block, kind.block_bytes) for kind in GgmlType}
    with pytest.raises(ValueError, match="ggml has no tensor type -1"):
        _native.tensor_type(-1)
