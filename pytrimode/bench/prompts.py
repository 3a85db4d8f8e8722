"""What is asked: a built-in set by category, or a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytrimode.gguf import keys
from pytrimode.trimode import TriMode

_COPY_EDIT = Path(__file__).with_name("copy_edit.json")
"""Texts and code to be written again with small changes: where drafts can be read off the prompt."""
PROMPTS: Mapping[str, Sequence[str]] = {
    "code": (
        "Write a Python function add that returns the sum of two numbers.",
        "Define a class called Book that has title and price and a method get_price.",
        "Write a Python function longest that returns the longest word of a list.",
        "Write a Python function is_even that tells whether a number is even.",
        "Define a class called Car that has name and speed and a method get_speed.",
        "Write a Python function make_list that returns the squares of the numbers from 1 to n.",
    ),
    "chat": (
        "Hello, how are you?",
        "What is the mode self-spec?",
        "Explain the system prompt.",
        "What can you do?",
        "How do you spell diamond and oven?",
        "What is block diffusion?",
    ),
    "maths": (
        "30 + 10 = ?",
        "What is 47 plus 38?",
        "How much is 91 - 26?",
        "What is 12 + 59?",
        "How many words are in this text: the lamp stands on my table",
        "What is 64 minus 17?",
    ),
    "lists": (
        "Sort these numbers: 74, 31, 95, 12, 58",
        "Alphabetize house, oven, evening, table",
        "Reverse this list: nurse, duck, nail, tulip and anchor",
        "Put these numbers in order: 53, 42, 94, 11, 38, 67",
        "Sort these words: river, apple, stone, cloud",
        "Reverse this list: one, three, five, seven, nine",
    ),
    **json.loads(_COPY_EDIT.read_text(encoding="utf-8")),
}
"""Short tasks that models of any size answer, and that differ in how well drafts are accepted."""


def read_prompts(path: Path) -> dict[str, list[str]]:
    """Prompts of a file by category: JSON, an object of lists; else text, a prompt on each line, category = file name.

    Raises ValueError for a file that is neither, or holds none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            found = {path.stem: [line for line in text.splitlines() if line.strip()]}
        else:
            found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: prompts are UTF-8 text or JSON: {error}") from error
    if not isinstance(found, dict) or not all(_is_list_of_texts(prompts) for prompts in found.values()):
        raise ValueError(f'{path}: an object of lists is needed: {{"category": ["prompt", ...], ...}}')
    if not any(found.values()):
        raise ValueError(f"{path}: there is no prompt in it")
    return {category: prompts for category, prompts in found.items() if prompts}


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def tokenize(model: TriMode, prompts: Mapping[str, Sequence[str]], length: int) -> dict[str, list[list[int]]]:
    """Return the prompts as tokens: chat turns where the model has a chat template.

    `length` > 0: each behind earlier turns (or lines), the other prompts of its category, to about so many tokens.
    """
    return {
        category: [_one(model, texts[i:] + texts[:i], length) for i in range(len(texts))]
        for category, texts in ((category, list(texts)) for category, texts in prompts.items())
    }


def _one(model: TriMode, texts: Sequence[str], length: int) -> list[int]:
    prompt, others = texts[0], [*texts[1:], texts[0]]
    n_before = 0
    while True:
        before = [others[i % len(others)] for i in range(n_before)]
        tokens = _rendered(model, [*before, prompt])
        missing = length - len(tokens)
        if missing <= 0:
            return tokens
        n_before += max(1, missing * (n_before + 1) // (2 * len(tokens)))  # from below, in few steps


def _rendered(model: TriMode, texts: Sequence[str]) -> list[int]:
    if keys.CHAT_TEMPLATE not in model.metadata:
        return model.prompt_tokens("\n".join(texts))
    messages = []
    for text in texts[:-1]:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": f"{text} I see."}]
    return model.chat_tokens([*messages, {"role": "user", "content": texts[-1]}])
