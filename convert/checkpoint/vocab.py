"""The vocabulary: a tokenizer.json of the Tekken family as llama.cpp's byte-level BPE (`gpt2`, `tekken`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from pytrimode.convert.checkpoint.checkpoint import (
    CHAT_TEMPLATE,
    CONFIG,
    GENERATION_CONFIG,
    PROCESSOR_TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    Checkpoint,
)
from pytrimode.convert.checkpoint.json_file import JsonObject, json_type, shown
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.metadata import Metadata

# What llama.cpp calls pre-tokenizer "tekken" (the comment in src/llama-vocab.cpp has it as in tokenizer.json).
TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Ends of a turn: llama.cpp treats them as ends of generation, whatever the end-of-text id is.
END_OF_TURN = ("<|im_end|>", "<|eot_id|>")
STRIPPING = ("lstrip", "rstrip", "single_word")
"""Of added tokens: whether they take the spaces around them, or must be words."""


class TokenType(IntEnum):
    """enum llama_token_type in llama.cpp's include/llama.h."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


@dataclass
class Vocab:
    """The vocabulary of a GGUF file.

    Attributes:
        tokens: text by id; normal tokens in the byte-level alphabet, added tokens as they are.
        types: type by id.
        merges: "left right", most important first.
        special_ids: GGUF key -> token id.
        flags: GGUF key -> whether the tokenizer adds such a token by itself.
        chat_template: Jinja source, None when the checkpoint has none (a base model).
        notes: what the user should know.
    """

    tokens: list[str]
    types: list[TokenType]
    merges: list[str]
    special_ids: dict[str, int]
    flags: dict[str, bool]
    chat_template: str | None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, vocab_size: int) -> Vocab:
        """Read the tokenizer files. Raises ConversionError for a tokenizer that llama.cpp would not reproduce."""
        tokenizer = checkpoint.read_json(TOKENIZER)
        settings = checkpoint.read_optional_json(TOKENIZER_CONFIG)
        notes = [*_check_pipeline(tokenizer), *_stripping_notes(tokenizer)]
        added = _added_tokens(tokenizer)
        ids = _token_ids(tokenizer, added)
        tokens, types = _by_id(ids, added, vocab_size, tokenizer.where)
        special_ids, end_notes = _special_ids(checkpoint, settings, ids, vocab_size)
        return cls(
            tokens=tokens,
            types=types,
            merges=_merges(tokenizer.object("model")),
            special_ids=special_ids,
            flags=_added_around(tokenizer, settings, special_ids, ids),
            chat_template=_chat_template(checkpoint, settings),
            notes=notes + end_notes,
        )

    def add_to(self, metadata: Metadata) -> None:
        """Write it, as llama.cpp's `llama_vocab::impl::load` reads it."""
        metadata.string(keys.TOKENIZER_MODEL, "gpt2")
        metadata.string(keys.TOKENIZER_PRE, "tekken")
        metadata.strings(keys.TOKENIZER_TOKENS, self.tokens)
        metadata.i32s(keys.TOKENIZER_TOKEN_TYPE, self.types)
        metadata.strings(keys.TOKENIZER_MERGES, self.merges)
        for key, token in self.special_ids.items():
            metadata.u32(key, token)
        for key, flag in self.flags.items():
            metadata.boolean(key, flag)
        metadata.boolean(keys.TOKENIZER_ADD_SPACE_PREFIX, False)
        if self.chat_template is not None:
            metadata.string(keys.CHAT_TEMPLATE, self.chat_template)


def _check_pipeline(tokenizer: JsonObject) -> list[str]:
    """Refuse anything but Tekken's split followed by byte-level BPE; return notes on what differs harmlessly."""
    model = tokenizer.object("model")
    model.require("type", ("BPE",), "only byte-level BPE tokenizers are known")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        model.require(key, (None, ""), "byte-level BPE has none")
    model.require("byte_fallback", (None, False), "byte-level BPE needs none")
    model.require("dropout", (None, 0, 0.0), "tokenization must not be random")
    tokenizer.require("normalizer", (None,), "llama.cpp does not normalize text")
    splits, byte_levels = _pre_tokenizers(tokenizer)
    if len(splits) != 1 or len(byte_levels) != 1:
        raise tokenizer.error("pre_tokenizer", "a Tekken split and then ByteLevel")
    pattern = splits[0].get("pattern")
    if pattern != {"Regex": TEKKEN_PATTERN}:
        raise ConversionError(
            f"{splits[0].where}: pattern: not the Tekken split, the only one supported: "
            f"expected {shown(TEKKEN_PATTERN)}, found {shown(pattern)}"
        )
    splits[0].require("behavior", ("Isolated",), "every piece is a word")
    splits[0].require("invert", (None, False), "the pattern matches words, not what is between them")
    byte_levels[0].require("add_prefix_space", (None, False), "llama.cpp's tekken adds no space")
    byte_levels[0].require("use_regex", (False,), "the Tekken pattern has split the text already")
    if model.get("ignore_merges") is not True:
        return [
            "tokenizer.json has ignore_merges false; llama.cpp's tekken looks up whole words first, "
            "so a word that is a token but cannot be merged is tokenized differently"
        ]
    return []


def _pre_tokenizers(tokenizer: JsonObject) -> tuple[list[JsonObject], list[JsonObject]]:
    """Return the Split and the ByteLevel steps of the pre-tokenizer."""
    outer = tokenizer.object("pre_tokenizer")
    steps = outer.objects("pretokenizers") if outer.get("type") == "Sequence" else [outer]
    for step in steps:
        step.require("type", ("Split", "ByteLevel"), "llama.cpp's tekken has no such step")
    splits = [step for step in steps if step["type"] == "Split"]
    return splits, [step for step in steps if step["type"] == "ByteLevel"]


def _added_tokens(tokenizer: JsonObject) -> dict[int, tuple[str, TokenType]]:
    """Return added tokens by id: special ones are control tokens, the others are matched in any text."""
    found: dict[int, tuple[str, TokenType]] = {}
    for token in tokenizer.objects("added_tokens"):
        text = token.get("content")
        if not isinstance(text, str) or not text:
            raise token.error("content", "a text")
        for key in STRIPPING:
            if not token.get("special"):  # what text never holds may be as it likes
                token.require(
                    key, (None, False), f"token {text!r}: llama.cpp matches added tokens literally; set it to false"
                )
        kind = TokenType.CONTROL if token.get("special") else TokenType.USER_DEFINED
        found[token.integer("id", minimum=0)] = (text, kind)
    return found


def _stripping_notes(tokenizer: JsonObject) -> list[str]:
    """Name the special tokens that take spaces in transformers, and none here."""
    found = [
        str(token.get("content"))
        for token in tokenizer.objects("added_tokens")
        if token.get("special") and any(token.get(key) not in (None, False) for key in STRIPPING)
    ]
    if not found:
        return []
    return [
        f"tokenizer.json has lstrip, rstrip or single_word for special tokens ({', '.join(found)}): spaces beside one "
        f"that is spelled out in a text stay here"
    ]


def _token_ids(tokenizer: JsonObject, added: dict[int, tuple[str, TokenType]]) -> dict[str, int]:
    """Token text -> id, of the BPE vocabulary and the added tokens together."""
    vocab = tokenizer.object("model").object("vocab")
    ids = dict(vocab)
    for text, token in ids.items():
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            raise ConversionError(f"{vocab.where}: {text!r}: expected a token id, found {shown(token)}")
    for token, (text, _) in added.items():
        if ids.setdefault(text, token) != token:
            raise ConversionError(
                f"{tokenizer.where}: added token {text!r} has id {token}, the vocabulary gives it {ids[text]}"
            )
    return ids


def _by_id(
    ids: dict[str, int], added: dict[int, tuple[str, TokenType]], vocab_size: int, where: str
) -> tuple[list[str], list[TokenType]]:
    """Texts and types by id; ids without a token become [PADn], unused, as in llama.cpp's converter."""
    tokens = [f"[PAD{i}]" for i in range(vocab_size)]
    types = [TokenType.UNUSED] * vocab_size
    taken: dict[int, str] = {}
    for text, token in ids.items():
        if token >= vocab_size and token in added:
            without = [text for token, (text, _) in sorted(added.items()) if token >= vocab_size]
            raise ConversionError(
                f"{where}: added tokens without rows in the embedding: {', '.join(map(repr, without[:5]))}"
                f"{' and more' if len(without) > 5 else ''} ({text!r} has id {token}, {CONFIG} has vocab_size "
                f"{vocab_size}): call model.resize_token_embeddings(len(tokenizer)) before saving, or take them out"
            )
        if token >= vocab_size:
            raise ConversionError(
                f"{where}: token {text!r} has id {token}, {CONFIG} has vocab_size {vocab_size}: "
                f"the tokenizer belongs to another model"
            )
        if taken.setdefault(token, text) != text:
            raise ConversionError(f"{where}: tokens {taken[token]!r} and {text!r} have the same id {token}")
        tokens[token] = text
        types[token] = added[token][1] if token in added else TokenType.NORMAL
    if len(set(tokens)) != vocab_size:
        raise ConversionError(f"{where}: a token is named like a padding token: [PADn]")
    return tokens, types


def _merges(model: JsonObject) -> list[str]:
    """Return merges as "left right"; tokenizer.json has them so, or as pairs (tokenizers >= 0.20)."""
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise model.error("merges", "a list")
    found = []
    for index, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            raise ConversionError(f"{model.where}: merges[{index}]: expected two tokens, found {shown(merge)}")
        if any(" " in part for part in pair):
            raise ConversionError(f"{model.where}: merges[{index}]: {shown(merge)} holds a space: not byte-level")
        found.append(" ".join(pair))
    return found


def _special_ids(
    checkpoint: Checkpoint, settings: JsonObject, ids: dict[str, int], vocab_size: int
) -> tuple[dict[str, int], list[str]]:
    """GGUF key -> id, and notes. config.json decides; what it leaves open comes from tokenizer_config.json."""
    config = checkpoint.config
    found: dict[str, int] = {}
    for name, key in (
        ("bos", keys.TOKENIZER_BOS),
        ("eos", keys.TOKENIZER_EOS),
        ("unk", keys.TOKENIZER_UNK),
        ("pad", keys.TOKENIZER_PAD),
        ("mask", keys.TOKENIZER_MASK),
    ):
        token = _configured_id(config, f"{name}_token_id", vocab_size)
        if token is None:
            token = ids.get(_token_text(settings.get(f"{name}_token")))
        if token is not None:
            found[key] = token
    for key, name in ((keys.TOKENIZER_EOS, "eos"), (keys.TOKENIZER_MASK, "mask")):
        if key not in found:
            raise ConversionError(
                f"{config.where}: {name}_token_id: missing, and {TOKENIZER_CONFIG} has no {name}_token: "
                f"a tri-mode model cannot run without it"
            )
    others = _other_ends(checkpoint, ids, found[keys.TOKENIZER_EOS], vocab_size)
    if len(others) > 2:  # llama.cpp ends at some by itself, by their texts
        others.sort(key=lambda token: token in (ids.get(text) for text in END_OF_TURN))
    found |= dict(zip((keys.TOKENIZER_EOT, keys.TOKENIZER_EOM), others, strict=False))
    lost = [token for token in others[2:] if token not in (ids.get(text) for text in END_OF_TURN)]
    notes = [
        f"a GGUF file names three ends of generation: tokens {', '.join(map(str, lost))} of eos_token_id are left out, "
        f"so give them as stop_token_ids"
    ]
    return found, notes if lost else []


def _other_ends(checkpoint: Checkpoint, ids: dict[str, int], eos: int, vocab_size: int) -> list[int]:
    """Return further ends of generation: the eos ids of generation_config.json and config.json, else a known end of
    turn.
    """
    found: list[int] = []
    for config in (checkpoint.read_optional_json(GENERATION_CONFIG), checkpoint.config):
        listed = config.get("eos_token_id")
        for token in listed if isinstance(listed, list) else [listed]:
            if isinstance(token, int) and token not in (eos, *found) and 0 <= token < vocab_size:
                found.append(token)
    return found or [ids[text] for text in END_OF_TURN if text in ids and ids[text] != eos][:1]


def _configured_id(config: JsonObject, key: str, vocab_size: int) -> int | None:
    value = config.get(key)
    if isinstance(value, list):  # several ends of text: the first is the main one
        value = value[0] if value else None
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < vocab_size:
        raise config.error(key, f"a token id below vocab_size ({vocab_size})")
    return value


def _token_text(entry: Any) -> str:
    """Return a token in tokenizer_config.json: its text, or an object with the text as `content`."""
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else ""


def _added_around(
    tokenizer: JsonObject, settings: JsonObject, special_ids: dict[str, int], ids: dict[str, int]
) -> dict[str, bool]:
    """Whether bos and eos are put around a text: the post-processor says so, else tokenizer_config.json."""
    flags = {
        keys.TOKENIZER_ADD_BOS: settings.get("add_bos_token") is True,
        keys.TOKENIZER_ADD_EOS: settings.get("add_eos_token") is True,
    }
    if tokenizer.get("post_processor") is None:
        return flags
    outer = tokenizer.object("post_processor")
    templates = [step for step in [outer, *outer.objects("processors")] if step.get("type") == "TemplateProcessing"]
    for template in templates:
        before, after = _template(template, ids)
        bos, eos = special_ids.get(keys.TOKENIZER_BOS), special_ids[keys.TOKENIZER_EOS]
        if before not in ([], [bos]) or after not in ([], [eos]):
            raise template.error("single", "at most the bos token before the text and the eos token after it")
        flags = {keys.TOKENIZER_ADD_BOS: bool(before), keys.TOKENIZER_ADD_EOS: bool(after)}
    return flags


def _template(template: JsonObject, ids: dict[str, int]) -> tuple[list[int | None], list[int | None]]:
    """Token ids before and after the text in a TemplateProcessing step (None: not in the vocabulary)."""
    pieces = template.objects("single")
    texts = [i for i, piece in enumerate(pieces) if "Sequence" in piece]
    if len(texts) != 1:
        raise template.error("single", "one text")
    tokens = [
        ids.get(piece.object("SpecialToken").get("id", "")) if i != texts[0] else None for i, piece in enumerate(pieces)
    ]
    return tokens[: texts[0]], tokens[texts[0] + 1 :]


def _chat_template(checkpoint: Checkpoint, settings: JsonObject) -> str | None:
    """chat_template.jinja, else the entry of tokenizer_config.json or chat_template.json, as transformers looks."""
    text = checkpoint.read_optional_text(CHAT_TEMPLATE)
    if text is not None:
        return text
    for file in (settings, checkpoint.read_optional_json(PROCESSOR_TEMPLATE)):
        text = _named_template(file)
        if text is not None:
            return text
    return None


def _named_template(file: JsonObject) -> str | None:
    """Return the entry `chat_template`: one text, or of a list of named ones "default" or the only one."""
    value = file.get("chat_template")
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("default", next(iter(named.values())) if len(named) == 1 else None)
        if value is None and named:
            names = ", ".join(str(name) for name in named)
            raise ConversionError(f"{file.where}: chat_template: none of {names} is called default: name one so")
    if value is not None and not isinstance(value, str):
        raise ConversionError(f"{file.where}: chat_template: expected a text, found {json_type(value)}")
    return value
