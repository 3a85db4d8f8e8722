"""The vocabulary of a model file: part of `preflight`."""

from __future__ import annotations

import struct
from itertools import pairwise

from pytrimode.gguf import keys
from pytrimode.gguf.layout import F32, I32, STRING
from pytrimode.gguf.preflight_values import Values, shown

TOKENIZER = "gpt2"
"""Byte-level BPE, by llama.cpp's name."""
MAX_TOKENS = 1 << 21
TOKEN_TYPES = range(7)
"""enum llama_token_type."""
_NAMES = {F32: "float32", I32: "int32", STRING: "texts"}
_LENGTH = struct.Struct("<Q")


def check_vocabulary(values: Values) -> int:
    """Check tokens, their types, merges and special ids. Returns the number of tokens. Raises ValueError."""
    model = values.text(keys.TOKENIZER_MODEL)
    if model != TOKENIZER:
        raise values.error(
            f"{keys.TOKENIZER_MODEL} is {shown(model)}, expected {TOKENIZER!r}: another tokenizer's model"
        )
    n_tokens = _check_tokens(values)
    _array(values, keys.TOKENIZER_MERGES, STRING, None)
    if keys.TOKENIZER_SCORES in values.header.metadata:
        _array(values, keys.TOKENIZER_SCORES, F32, n_tokens)
    if keys.TOKENIZER_TOKEN_TYPE in values.header.metadata:
        data = _array(values, keys.TOKENIZER_TOKEN_TYPE, I32, n_tokens)
        if other := set(memoryview(data).cast("i")).difference(TOKEN_TYPES):
            raise values.error(
                f"{keys.TOKENIZER_TOKEN_TYPE} has the type {min(other)}, expected {TOKEN_TYPES[0]} to {TOKEN_TYPES[-1]}"
            )
    for key in values.header.metadata:
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            values.integer(key, 0, n_tokens - 1)
        elif key.startswith("tokenizer.ggml.add_") and not isinstance(values.header.metadata[key], bool):
            raise values.error(f"{key} is {shown(values.header.metadata[key])}, expected true or false")
    if keys.VOCAB_SIZE in values.header.metadata:
        values.integer(keys.VOCAB_SIZE, n_tokens, n_tokens)
    values.text(keys.TOKENIZER_PRE)
    values.text(keys.CHAT_TEMPLATE)
    return n_tokens


def _check_tokens(values: Values) -> int:
    data = _array(values, keys.TOKENIZER_TOKENS, STRING, None)
    n_tokens = int(values.header.metadata[keys.TOKENIZER_TOKENS][1])
    if not 1 <= n_tokens <= MAX_TOKENS:
        raise values.error(f"{keys.TOKENIZER_TOKENS} has {n_tokens} tokens, expected 1 to {MAX_TOKENS}")
    unpack, size = _LENGTH.unpack_from, _LENGTH.size
    ends = [0]
    end = 0
    for _ in range(n_tokens):
        end += size + unpack(data, end)[0]
        ends.append(end)
    tokens = [data[begin + size : end] for begin, end in pairwise(ends)]
    if b"" in (known := set(tokens)):
        raise values.error(f"{keys.TOKENIZER_TOKENS}: token {tokens.index(b'')} is empty")
    if len(known) < n_tokens:
        first: dict[bytes, int] = {}
        for i, token in enumerate(tokens):
            if first.setdefault(token, i) != i:
                text = token[:40].decode("utf-8", "replace")
                raise values.error(f"{keys.TOKENIZER_TOKENS}: tokens {first[token]} and {i} are the same, {text!r}")
    return n_tokens


def _array(values: Values, key: str, kind: int, n: int | None) -> bytes:
    """Return the data of an array of a type, behind type and length."""
    found = values.header.metadata.get(key)
    if found is None:
        raise values.missing(key)
    if not isinstance(found, tuple):
        raise values.error(f"{key} is {shown(found)}, expected an array of {_NAMES[kind]}")
    begin, end = values.header.spans[key]
    with values.header.path.open("rb") as file:
        file.seek(begin)
        data = file.read(end - begin)
    _, inner, _ = struct.unpack_from("<IIQ", data)
    if inner != kind:
        raise values.error(f"{key} is an array of another type ({inner}), expected {_NAMES[kind]} ({kind})")
    if n is not None and found[1] != n:
        raise values.error(f"{key} has {found[1]} values, expected {n}, one for each token")
    return data[16:]
