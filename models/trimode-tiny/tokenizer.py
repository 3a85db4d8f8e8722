"""The tokenizer: byte-level BPE with the Tekken split pattern, trained on the generated conversations."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

# The pattern llama.cpp knows as pre-tokenizer "tekken" (src/llama-vocab.cpp); digits are single tokens.
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
N_SPECIAL = 128  # special tokens occupy the first ids, as in the real Tekken vocabularies
NAMED = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    10: "<|im_start|>",
    11: "<|im_end|>",
    12: "<think>",
    13: "</think>",
    100: "<mask>",
}
SPECIALS = [NAMED.get(i, f"<SPECIAL_{i}>") for i in range(N_SPECIAL)]
BOS, EOS, MASK = 1, 11, 100


def new_tokenizer() -> Tokenizer:
    """An untrained tokenizer with the final splitting and decoding rules."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(TEKKEN), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(texts: list[str], vocab_size: int) -> Tokenizer:
    """Train on plain texts; the size becomes a multiple of 64 not above `vocab_size`. All 256 bytes have a token."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    while True:
        tokenizer = new_tokenizer()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=SPECIALS,
            initial_alphabet=alphabet,
            min_frequency=2,
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        size = tokenizer.get_vocab_size()
        if size % 64 == 0:
            break
        vocab_size = size // 64 * 64
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, template: Path, out: Path, max_length: int) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and chat_template.jinja."""
    tokenizer.save(str(out / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "mask_token": "<mask>"}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        **names,
        "added_tokens_decoder": {str(i): {"content": t, **flags} for i, t in enumerate(SPECIALS)},
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    for name, value in (("tokenizer_config.json", config), ("special_tokens_map.json", names)):
        (out / name).write_text(json.dumps(value, indent=2) + "\n")
    text = template.read_text()
    if (out / "chat_template.jinja").resolve() != template.resolve():
        (out / "chat_template.jinja").write_text(text)
