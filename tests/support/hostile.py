"""GGUF files as strangers make them: a small model, its adapter and its vocabulary, each wrong in one way.

Every case has a name that says what is wrong. `cases` gives them all, in an order that a seed decides.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytrimode.gguf import keys
from pytrimode.gguf.header import read_gguf_header
from pytrimode.gguf.layout import ARRAY, F32, I32, STRING, U32, padded
from pytrimode.gguf.types import BY_NUMBER

U8, U64, I64, F64, BOOL = 0, 10, 11, 12, 7
CODES = {U8: "B", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
NAN, INF = float("nan"), float("inf")


@dataclass
class Tensor:
    """A tensor as a file describes it, and its data."""

    name: bytes
    shape: tuple[int, ...]
    kind: int
    data: bytes


@dataclass
class File:
    """A file to be: its values, type before each, and its tensors."""

    values: list[tuple[bytes, bytes]]
    tensors: list[Tensor]
    n_values: int | None = None
    n_tensors: int | None = None

    @classmethod
    def read(cls, path: Path) -> File:
        """Take a file apart."""
        header, data = read_gguf_header(path), path.read_bytes()
        numbers = {kind.name: number for number, kind in BY_NUMBER.items()}
        values = [(key.encode(), data[begin:end]) for key, (begin, end) in header.spans.items()]
        tensors = []
        for info in header.tensors:
            begin = header.data_start + info.offset
            content = data[begin : begin + (info.n_bytes or 0)]
            tensors.append(Tensor(info.name.encode(), info.shape, numbers[info.type], content))
        return cls(values, tensors)

    def encode(self) -> bytes:
        """The bytes of the file."""
        parts = [
            b"GGUF",
            struct.pack("<I", 3),
            struct.pack("<QQ", *(
                len(items) if n is None else n
                for items, n in ((self.tensors, self.n_tensors), (self.values, self.n_values))
            )),
        ]  # fmt: skip
        for key, value in self.values:
            parts += [_text(key), value]
        offset = 0
        for tensor in self.tensors:
            shape = [n % 2**64 for n in tensor.shape]
            parts.append(
                _text(tensor.name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, tensor.kind, offset)
            )
            offset += padded(len(tensor.data))
        header = b"".join(parts)
        content = b"".join(t.data + bytes(padded(len(t.data)) - len(t.data)) for t in self.tensors)
        return header + bytes(padded(len(header)) - len(header)) + content

    def set(self, key: str, value: bytes | None) -> File:
        """A copy with another value, or without the key."""
        name = key.encode()
        values = [(k, v) for k, v in self.values if k != name]
        return replace(self, values=values if value is None else [*values, (name, value)])

    def value(self, key: str) -> bytes:
        """What the file has for a key."""
        return dict(self.values)[key.encode()]

    def with_tensor(self, name: str, **changes: object) -> File:
        """A copy in which a tensor is another."""
        tensors = [replace(t, **changes) if t.name == name.encode() else t for t in self.tensors]  # type: ignore[arg-type]
        return replace(self, tensors=tensors)


@dataclass(frozen=True)
class Case:
    """A file that is wrong.

    Attributes:
        name: what is wrong.
        files: name of a file beside the others -> what makes its bytes.
        is_runnable: nothing that a header tells is wrong with it: it may run.
    """

    name: str
    files: dict[str, Callable[[], bytes]] = field(hash=False)
    is_runnable: bool = False


def _text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def scalar(kind: int, value: float) -> bytes:
    """A number with its type."""
    return struct.pack("<I" + CODES[kind], kind, value)


def text(value: str | bytes) -> bytes:
    """A text with its type."""
    return struct.pack("<I", STRING) + _text(value.encode() if isinstance(value, str) else value)


def array(kind: int, values: list[float] | list[bytes]) -> bytes:
    """An array with its type."""
    head = struct.pack("<IIQ", ARRAY, kind, len(values))
    if kind == STRING:
        return head + b"".join(_text(v) for v in values)  # type: ignore[arg-type]
    return head + struct.pack(f"<{len(values)}{CODES[kind]}", *values)


INTEGERS = (
    keys.BLOCK_COUNT, keys.EMBEDDING_LENGTH, keys.FEED_FORWARD_LENGTH, keys.HEAD_COUNT, keys.HEAD_COUNT_KV,
    keys.KEY_LENGTH, keys.VALUE_LENGTH, keys.ROPE_DIMENSION_COUNT, keys.CONTEXT_LENGTH, keys.ROPE_ORIGINAL_CONTEXT,
    keys.TRIMODE_BLOCK_LENGTH, keys.EXPERT_COUNT, keys.EXPERT_USED_COUNT, keys.VOCAB_SIZE,
)  # fmt: skip
FLOATS = (
    keys.RMS_EPSILON, keys.ROPE_FREQ_BASE, keys.ROPE_SCALING_FACTOR, keys.TEMPERATURE_SCALE, keys.YARN_BETA_FAST,
    keys.YARN_BETA_SLOW, keys.YARN_LOG_MULTIPLIER, keys.ROPE_ATTENTION_FACTOR, keys.TRIMODE_THRESHOLD,
)  # fmt: skip
TOKEN_IDS = (keys.TOKENIZER_BOS, keys.TOKENIZER_EOS, keys.TOKENIZER_MASK, keys.TOKENIZER_UNK, keys.TOKENIZER_PAD)
TENSORS = (
    "token_embd.weight", "output.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.weight",
    "blk.1.attn_output.weight", "blk.1.ffn_norm.weight", "blk.1.ffn_down.weight",
)  # fmt: skip
MODEL, ADAPTER = "m.gguf", "m-drafter-lora.gguf"


def cases(model: Path, adapter: Path, seed: int = 0, mutations: int = 40) -> list[Case]:
    """Every case made of a model and its adapter, in an order by chance."""
    whole, lora = File.read(model), File.read(adapter)
    found = [Case(name, {MODEL: file.encode, ADAPTER: lora.encode}) for name, file in _models(whole)]
    found += [Case(name, {MODEL: whole.encode, ADAPTER: file.encode}) for name, file in _adapters(lora)]
    found += list(_parts(whole))
    found += list(_mutations(model.read_bytes(), adapter.read_bytes(), random.Random(seed), mutations))
    random.Random(seed).shuffle(found)
    return found


def _models(whole: File) -> Iterator[tuple[str, File]]:
    yield from _numbers(whole)
    yield from _texts(whole)
    yield from _vocabularies(whole)
    yield from _tensors(whole)
    yield "key-twice", replace(whole, values=[*whole.values, whole.values[0]])
    yield "key-with-zero", whole.set("general.a\0b", scalar(U32, 1))
    yield "keys-2e62", replace(whole, n_values=2**62)
    yield "tensors-2e62", replace(whole, n_tensors=2**62)
    yield "tensors-none", replace(whole, tensors=[])
    many = [Tensor(b"t%d" % i, (1,), 0, bytes(4)) for i in range(60_000)]
    yield "tensors-60k-one-twice", replace(whole, tensors=[*many, *many[:1]])
    yield "alignment-3", whole.set(keys.GENERAL_ALIGNMENT, scalar(U32, 3))


def _numbers(whole: File) -> Iterator[tuple[str, File]]:
    for key in INTEGERS:
        for n in (0, 1, 3, 33, 513, 2**31 - 1, 2**31, 2**32 - 1):
            if key in (keys.CONTEXT_LENGTH, keys.ROPE_ORIGINAL_CONTEXT, keys.TRIMODE_BLOCK_LENGTH, keys.VOCAB_SIZE):
                continue  # some of these are fine
            if key in (keys.EXPERT_COUNT, keys.EXPERT_USED_COUNT) and not n:
                continue
            yield f"hp-{key}-{n}", whole.set(key, scalar(U32, n))
        yield f"hp-{key}-negative", whole.set(key, scalar(I32, -1))
        yield f"hp-{key}-float", whole.set(key, scalar(F32, 2.5))
        yield f"hp-{key}-text", whole.set(key, text("2"))
        yield f"hp-{key}-array", whole.set(key, array(U32, [2, 2]))
        yield f"hp-{key}-2e64", whole.set(key, scalar(U64, 2**64 - 1))
    for key in FLOATS:
        for value in (NAN, INF, -INF):
            yield f"hp-{key}-{value}", whole.set(key, scalar(F32, value))
        yield f"hp-{key}-text", whole.set(key, text("x"))
        yield f"hp-{key}-array", whole.set(key, array(F32, [1.0]))
    for key in (keys.RMS_EPSILON, keys.ROPE_FREQ_BASE, keys.ROPE_SCALING_FACTOR):
        yield f"hp-{key}-zero", whole.set(key, scalar(F32, 0.0))
        yield f"hp-{key}-negative", whole.set(key, scalar(F32, -1.0))
    for key in (keys.BLOCK_COUNT, keys.EMBEDDING_LENGTH, keys.HEAD_COUNT, keys.RMS_EPSILON, keys.CONTEXT_LENGTH):
        yield f"hp-{key}-missing", whole.set(key, None)


def _texts(whole: File) -> Iterator[tuple[str, File]]:
    for key in (keys.GENERAL_ARCHITECTURE, keys.GENERAL_TYPE, keys.ROPE_SCALING_TYPE, keys.TOKENIZER_MODEL):
        for value in ("", "none" if key != keys.ROPE_SCALING_TYPE else "longrope", "llama", "x" * 100_000, "a\0b"):
            yield f"text-{key}-{value[:8]!r}", whole.set(key, text(value))
        yield f"text-{key}-bytes", whole.set(key, text(b"\xff\xfe"))
        yield f"text-{key}-number", whole.set(key, scalar(U32, 7))
    yield "text-template-number", whole.set(keys.CHAT_TEMPLATE, scalar(U32, 7))
    yield "text-architecture-missing", whole.set(keys.GENERAL_ARCHITECTURE, None)


def _vocabularies(whole: File) -> Iterator[tuple[str, File]]:
    tokens = _strings(whole.value(keys.TOKENIZER_TOKENS))
    n = len(tokens)
    for name, changed in {
        "fewer": tokens[:-1], "more": [*tokens, b"zz"], "none": [], "one": tokens[:1],
        "twice": [*tokens[:-1], tokens[0]], "empty": [*tokens[:-1], b""],
    }.items():  # fmt: skip
        yield f"vocab-tokens-{name}", whole.set(keys.TOKENIZER_TOKENS, array(STRING, changed))
    for key in (keys.TOKENIZER_TOKENS, keys.TOKENIZER_TOKEN_TYPE, keys.TOKENIZER_MERGES, keys.TOKENIZER_SCORES):
        yield f"vocab-{key}-u8", whole.set(key, array(U8, [1] * n))
        yield f"vocab-{key}-f64", whole.set(key, array(F64, [1.0] * n))
        yield f"vocab-{key}-text", whole.set(key, text("a"))
        yield f"vocab-{key}-scalar", whole.set(key, scalar(U32, 1))
    yield "vocab-merges-missing", whole.set(keys.TOKENIZER_MERGES, None)
    yield "vocab-tokens-missing", whole.set(keys.TOKENIZER_TOKENS, None)
    for size in (0, n - 1, n + 1):
        yield f"vocab-types-{size - n:+}", whole.set(keys.TOKENIZER_TOKEN_TYPE, array(I32, [1] * size))
    yield "vocab-types-99", whole.set(keys.TOKENIZER_TOKEN_TYPE, array(I32, [99] * n))
    for key in TOKEN_IDS:
        for value in (n, 2**31, 2**32 - 1):
            yield f"id-{key}-{value}", whole.set(key, scalar(U32, value))
        yield f"id-{key}-negative", whole.set(key, scalar(I32, -1))
        yield f"id-{key}-text", whole.set(key, text("1"))
        yield f"id-{key}-array", whole.set(key, array(U32, [1]))
    yield "id-add-bos-number", whole.set(keys.TOKENIZER_ADD_BOS, scalar(U32, 1))


def _tensors(whole: File) -> Iterator[tuple[str, File]]:
    known = {tensor.name.decode(): tensor for tensor in whole.tensors}
    for name in TENSORS:
        tensor = known[name]
        n = 1
        for side in tensor.shape:
            n *= side
        for number in (*range(43), 99):
            kind = BY_NUMBER.get(number)
            if kind is None or (len(tensor.shape) == 2 and _is_weight(kind.name)) or kind.name == "F32":
                if kind is not None:
                    continue
                yield f"type-{number}-{name}", whole.with_tensor(name, kind=number)
            elif tensor.shape[0] % kind.block == 0:
                data = bytes(n // kind.block * kind.block_bytes)
                yield f"type-{kind.name}-{name}", whole.with_tensor(name, kind=number, data=data)
        first = tensor.shape[0]
        for what, shape in {
            "none": (), "zero": (0, *tensor.shape[1:]), "three": (*tensor.shape, 1, 1)[:3], "four": (first, 1, 1, 1),
            "five": (1,) * 5, "turned": tensor.shape[::-1], "shorter": (32, *tensor.shape[1:]),
            "huge": (2**63, *tensor.shape[1:]), "negative": (-1, *tensor.shape[1:]),
        }.items():  # fmt: skip
            if shape != tensor.shape:
                yield f"shape-{what}-{name}", whole.with_tensor(name, shape=shape)
        if name != "output.weight":
            yield f"tensor-missing-{name}", replace(whole, tensors=[t for t in whole.tensors if t is not tensor])
        yield f"tensor-twice-{name}", replace(whole, tensors=[*whole.tensors, tensor])
    for name in (b"", b"a\0b", b"x" * 63, b"x" * 64, b"blk.0.attn_q.bias", b"rope_freqs.weight", b"\xff"):
        yield (
            f"tensor-named-{name[:20]!r}",
            replace(whole, tensors=[*whole.tensors, Tensor(name, (32,), 0, bytes(128))]),
        )


def _adapters(lora: File) -> Iterator[tuple[str, File]]:
    for value in (NAN, INF, -INF):
        yield f"lora-alpha-{value}", lora.set(keys.ADAPTER_LORA_ALPHA, scalar(F32, value))
    yield "lora-alpha-missing", lora.set(keys.ADAPTER_LORA_ALPHA, None)
    yield "lora-alpha-text", lora.set(keys.ADAPTER_LORA_ALPHA, text("1"))
    yield "lora-type-model", lora.set(keys.GENERAL_TYPE, text("model"))
    yield "lora-adapter-type", lora.set(keys.ADAPTER_TYPE, text("control_vector"))
    first = lora.tensors[0]
    name = first.name.decode()
    for number in (9, 15, 24, 25, 26, 27, 28, 34, 35, 39, 99):
        kind = BY_NUMBER.get(number)
        size = len(first.data) if kind is None else first.shape[0] * first.shape[1] // kind.block * kind.block_bytes
        yield f"lora-type-{number}", lora.with_tensor(name, kind=number, data=bytes(size))
    for shape in ((first.shape[0], 0), (first.shape[0],), (*first.shape, 1), first.shape[::-1], (1, 1), (2**40, 2)):
        yield f"lora-shape-{shape}", lora.with_tensor(name, shape=shape)
    yield "lora-tensor-missing", replace(lora, tensors=lora.tensors[1:])
    yield "lora-tensors-none", replace(lora, tensors=[])
    yield "lora-tensor-more", replace(lora, tensors=[*lora.tensors, replace(first, name=b"blk.9.x.lora_a")])
    yield "lora-tensor-other", replace(lora, tensors=[replace(t, name=t.name + b"x") for t in lora.tensors])


def _parts(whole: File) -> Iterator[Case]:
    name = "m-00001-of-00002.gguf"
    counts = {
        "float": scalar(F32, 2.0), "text": text("2"), "2e64": scalar(U64, 2**64 - 1), "4e9": scalar(U32, 4_000_000_000),
        "zero": scalar(U32, 0), "negative": scalar(I32, -2), "array": array(U32, [2]), "two": scalar(U32, 2),
    }  # fmt: skip
    for what, value in counts.items():
        file = whole.set(keys.SPLIT_COUNT, value).set(keys.SPLIT_NO, scalar(U32, 0))
        yield Case(f"split-count-{what}", {name: file.encode})
    second = File([(keys.SPLIT_NO.encode(), scalar(U32, 1)), (keys.SPLIT_COUNT.encode(), scalar(U32, 2))], [])
    first = whole.set(keys.SPLIT_COUNT, scalar(U32, 2)).set(keys.SPLIT_NO, scalar(U32, 0))
    for what, tensors in {"twice": whole.tensors[:1], "more": [Tensor(b"x", (32,), 0, bytes(128))]}.items():
        both = {name: first.encode, "m-00002-of-00002.gguf": replace(second, tensors=tensors).encode}
        yield Case(f"split-tensor-{what}", both)


def _mutations(model: bytes, adapter: bytes, rng: random.Random, n: int) -> Iterator[Case]:
    """Bytes changed by chance, most in the header; files cut anywhere."""
    for i in range(n):
        which = rng.choice((MODEL, MODEL, MODEL, ADAPTER))
        data = bytearray(model if which == MODEL else adapter)
        for _ in range(rng.choice((1, 1, 2, 8))):
            end = len(data) if rng.random() < 0.3 else min(len(data), 4000)
            data[rng.randrange(4, end)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        files = {MODEL: model, ADAPTER: adapter, which: bytes(data)}
        yield Case(f"bytes-{i}", {name: (lambda d=content: d) for name, content in files.items()}, is_runnable=True)


def _is_weight(name: str) -> bool:
    return name not in ("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64")


def _strings(value: bytes) -> list[bytes]:
    (n,) = struct.unpack_from("<Q", value, 8)
    found, at = [], 16
    for _ in range(n):
        (length,) = struct.unpack_from("<Q", value, at)
        found.append(value[at + 8 : at + 8 + length])
        at += 8 + length
    return found
