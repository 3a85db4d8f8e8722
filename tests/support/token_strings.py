"""Seeded texts that try a tokenizer: code, scripts, emoji, whitespace, digits, special tokens."""

from __future__ import annotations

import random
from collections.abc import Callable

CODE = [
    "def add(a, b):\n    return a + b\n",
    "for (int i = 0; i < n; ++i) {\n\tsum += x[i] * y[i];\n}\n",
    "class HTTPServer2(BaseServer):\n    MAX_SIZE = 0xFF_FF\n",
    "SELECT id, COUNT(*) FROM users WHERE name LIKE '%O''Brien%' GROUP BY 1;",
    'print(f"{x!r:>10} {y:.3e}")  # comment\r\n',
    "let camelCaseName = snake_case_name ?? `tmpl ${a+b}`;",
    '<div class="a b">&nbsp;</div>\n\n\n<!-- -->',
    "#include <vector>\n#define X(a) #a\n\nint main() { return 0; }",
    "https://example.com/path/to?q=1&r=%20#frag",
    "std::unordered_map<std::string, std::vector<int>>::iterator",
]
# Ranges of letters (first, last): Latin, Greek, Cyrillic, Hebrew, Arabic, Thai consonants, kana, Han, Hangul.
SCRIPTS = [
    (0x41, 0x5A), (0x61, 0x7A), (0xC0, 0xD6), (0xF8, 0x17F), (0x3B1, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA),
    (0x627, 0x63A), (0xE01, 0xE2E), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3),
    (0x1F600, 0x1F64F), (0x2190, 0x21FF), (0x20A0, 0x20BF), (0x1D400, 0x1D454), (0x20000, 0x2A6D6),
]  # fmt: skip
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪", "❤️", "1️⃣", "🏳️‍🌈", "☺", "🤷‍♂️", "©", "🧑‍🚀"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\n ", "\t\t ", "\u00a0", "\u3000", "\u2003", "\x0b"]
DIGITS = ["0", "7", "42", "2024", "3.14159", "1,000,000", "1e-10", "٣٤٥", "½", "x²", "Ⅳ", "①"]
SPECIALS = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<mask>",
    "<unk>",
    "<SPECIAL_42>",
    "<|im_",
    "im_end|>",
    "<<s>>",
]
WORDS = ["the", "The", "THE", "hello", "World", "don't", "I'll", "état", "naïve", "Straße", "iPhone", "eBay's", "ÉCOLE"]
MARKS = ["e\u0301", "n\u0303o", "हिन्दी", "ภาษาไทย", "עִבְרִית", "اَلْعَرَبِيَّةُ", "தமிழ்", "Việt Nam", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A", "é́"]


def make_strings(n: int, seed: int, *, marks: bool = True) -> list[str]:
    """`n` strings, the same for the same seed. marks: include words with combining marks."""
    rng = random.Random(seed)
    kinds: list[Callable[[random.Random], str]] = [_code, _script, _mixed, _whitespace, _digits, _chat]
    pools = [WORDS, EMOJI, DIGITS, SPACES] + ([MARKS] if marks else [])
    strings = [_jumble(rng, pools) if i % 3 == 0 else rng.choice(kinds)(rng) for i in range(n)]
    return ["", " ", "\n", *strings][:n]


def _code(rng: random.Random) -> str:
    text = "".join(rng.choice(CODE) for _ in range(rng.randint(1, 3)))
    start = rng.randrange(len(text))
    return text[start : start + rng.randint(1, 80)]


def _script(rng: random.Random) -> str:
    first, last = rng.choice(SCRIPTS)
    letters = (chr(rng.randint(first, last)) for _ in range(rng.randint(1, 30)))
    return "".join(letter + (" " if rng.random() < 0.15 else "") for letter in letters)


def _mixed(rng: random.Random) -> str:
    return "".join(chr(rng.randint(*rng.choice(SCRIPTS))) for _ in range(rng.randint(1, 30)))


def _whitespace(rng: random.Random) -> str:
    return "".join(rng.choice(SPACES + WORDS[:3]) for _ in range(rng.randint(1, 12)))


def _digits(rng: random.Random) -> str:
    return rng.choice(["", " ", "-", "$"]).join(rng.choice(DIGITS) for _ in range(rng.randint(1, 6)))


def _chat(rng: random.Random) -> str:
    return "".join(rng.choice(SPECIALS + WORDS + SPACES[:5]) for _ in range(rng.randint(1, 10)))


def _jumble(rng: random.Random, pools: list[list[str]]) -> str:
    return "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 12)))
