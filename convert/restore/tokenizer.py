"""tokenizer.json and its companions from the metadata of a GGUF file."""

from __future__ import annotations

import json
import re

import numpy as np

from pytrimode.convert.checkpoint.checkpoint import CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG
from pytrimode.convert.checkpoint.vocab import TEKKEN_PATTERN, TokenType
from pytrimode.convert.gguf_input import GgufInput
from pytrimode.convert.restore.config import SPECIAL_TOKENS
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.layout import STRING
from pytrimode.gguf.metadata import decode_string, decode_strings

_PADDING = re.compile(r"\[PAD\d+\]")


def tokenizer_files(file: GgufInput) -> dict[str, str]:
    """File name -> text. Raises ConversionError for another tokenizer than Tekken's, or an incomplete one."""
    metadata = file.metadata()
    for key, wanted in ((keys.TOKENIZER_MODEL, "gpt2"), (keys.TOKENIZER_PRE, "tekken")):
        if file.value(key) != wanted:
            raise ConversionError(f"{file.path}: {key} is {file.value(key)!r}, expected {wanted!r}")
    missing = [
        key for key in (keys.TOKENIZER_TOKENS, keys.TOKENIZER_TOKEN_TYPE, keys.TOKENIZER_MERGES) if key not in metadata
    ]
    if missing:
        raise ConversionError(f"{file.path}: {missing[0]} is missing")
    tokens = decode_strings(metadata.entry(keys.TOKENIZER_TOKENS) or b"")
    types = np.frombuffer((metadata.entry(keys.TOKENIZER_TOKEN_TYPE) or b"")[16:], "<i4")
    merges = decode_strings(metadata.entry(keys.TOKENIZER_MERGES) or b"")
    files = {
        TOKENIZER: json.dumps(_tokenizer(file, tokens, types.tolist(), merges), ensure_ascii=False),
        TOKENIZER_CONFIG: json.dumps(_settings(file, tokens), ensure_ascii=False, indent=1),
    }
    template = metadata.entry(keys.CHAT_TEMPLATE)
    if template is not None and metadata.kind(keys.CHAT_TEMPLATE) == STRING:
        files[CHAT_TEMPLATE] = decode_string(template)
    return files


def _tokenizer(file: GgufInput, tokens: list[str], types: list[int], merges: list[str]) -> dict[str, object]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": i, "content": text, **flags, "special": kind == TokenType.CONTROL}
        for i, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
    ]
    vocab = {
        text: i
        for i, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind != TokenType.UNUSED or not _PADDING.fullmatch(text)
    }
    split = {"type": "Split", "pattern": {"Regex": TEKKEN_PATTERN}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": _post_processor(file, tokens),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocab,
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def _post_processor(file: GgufInput, tokens: list[str]) -> dict[str, object] | None:
    """bos before the text and eos after it, where the file says so."""
    around: list[list[dict[str, object]]] = [[], []]
    special = {}
    for side, flag, key in (
        (0, keys.TOKENIZER_ADD_BOS, keys.TOKENIZER_BOS),
        (1, keys.TOKENIZER_ADD_EOS, keys.TOKENIZER_EOS),
    ):
        token = file.value(key)
        if file.value(flag) and isinstance(token, int):
            text = tokens[token]
            around[side].append({"SpecialToken": {"id": text, "type_id": 0}})
            special[text] = {"id": text, "ids": [token], "tokens": [text]}
    if not special:
        return None
    single = [*around[0], {"Sequence": {"id": "A", "type_id": 0}}, *around[1]]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def _settings(file: GgufInput, tokens: list[str]) -> dict[str, object]:
    named = {
        f"{name}_token": tokens[token]
        for name, key in SPECIAL_TOKENS.items()
        if isinstance(token := file.value(key), int)
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": bool(file.value(keys.TOKENIZER_ADD_BOS)),
        "add_eos_token": bool(file.value(keys.TOKENIZER_ADD_EOS)),
        **named,
    }
