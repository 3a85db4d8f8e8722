"""Task generators: arithmetic, lists of numbers and words, spelling and counting, greetings.

Every generator takes a `random.Random` and returns a `Turn`. The answer is computed, never sampled, so it is right.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from words import SENTENCE_WORDS, WORDS


@dataclass
class Turn:
    """One question and its answer.

    `key` names the arguments (not the wording); keys decide what is held out from training. `think` is the text between
    <think> and </think> when thinking is on, `short` the answer that then follows (`answer` if empty). `items` is the
    list that a follow-up question can refer to.
    """

    task: str
    question: str
    answer: str
    key: str
    think: str = ""
    short: str = ""
    items: list = field(default_factory=list)


HELDOUT_SHARE = 13  # of 256: about 5 % of all argument keys never occur in training


def is_heldout(key: str) -> bool:
    """True for the keys kept out of training, chosen by a hash so that every run and every process agrees."""
    return hashlib.sha256(key.encode()).digest()[0] < HELDOUT_SHARE


IMPERATIVES = (
    "Add Calculate Compute Subtract Take Multiply Sort Put Order Arrange Alphabetize Reverse Write List Spell "
    "Give Count Define Implement Create Explain Tell Describe"
)


def polite(rng, text: str) -> str:
    """Vary the surface of a request: please, lower case, no final mark."""
    r = rng.random()
    if text.split()[0] in IMPERATIVES.split():
        if r < 0.08:
            text = "Please " + text[0].lower() + text[1:]
        elif r < 0.14:
            text = "Can you " + text[0].lower() + text[1:].rstrip(".?") + "?"
    if rng.random() < 0.12:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.1 and text[-1] in ".?":
        text = text[:-1]
    return text


# ---------------------------------------------------------------------------------------------------- arithmetic


def add_working(a: int, b: int) -> str:
    """Column addition from the ones upward: 'Ones: 7 + 5 = 12, carry 1. Tens: 4 + 8 + 1 = 13.'"""
    parts, carry, columns = [], 0, max(len(str(a)), len(str(b)))
    for i, column in enumerate(("Ones", "Tens")[:columns]):
        x, y = a // 10**i % 10, b // 10**i % 10
        total = x + y + carry
        term = f"{column}: {x} + {y}" + (" + 1" if carry else "") + f" = {total}"
        carry = total // 10
        parts.append(term + (", carry 1." if carry and i + 1 < columns else "."))
    return " ".join(parts)


def subtract_working(a: int, b: int) -> str:
    """Column subtraction (a >= b), the digits first: 'Ones: 3 - 8, borrow 1: 13 - 8 = 5. Tens: 5 - 1 - 2 = 2.'"""
    parts, borrow = [], 0
    for i, column in enumerate(("Ones", "Tens")[: len(str(a))]):
        x, y = a // 10**i % 10, b // 10**i % 10
        term = f"{column}: {x}" + (" - 1" if borrow else "") + f" - {y}"
        need = int(x - y - borrow < 0)
        term += f", borrow 1: {x + 10} - {y}" if need else ""
        parts.append(f"{term} = {x + 10 * need - borrow - y}.")
        borrow = need
    return " ".join(parts)


def number(rng) -> int:
    """Mostly two digits, sometimes one."""
    return rng.randint(1, 9) if rng.random() < 0.15 else rng.randint(10, 99)


ADD = [
    "What is {a} + {b}?",
    "Add {a} and {b}.",
    "What is the sum of {a} and {b}?",
    "{a} + {b}",
    "{a} + {b} = ?",
    "How much is {a} plus {b}?",
    "Calculate {a} + {b}.",
    "What is {a} plus {b}?",
    "Compute {a} + {b}.",
]
SUBTRACT = [
    "What is {a} - {b}?",
    "Subtract {b} from {a}.",
    "What is {a} minus {b}?",
    "{a} - {b}",
    "{a} - {b} = ?",
    "How much is {a} minus {b}?",
    "Calculate {a} - {b}.",
    "Take {b} away from {a}.",
    "Compute {a} - {b}.",
]
TIMES = ["What is {a} times {b}?", "{a} * {b}", "Multiply {a} by {b}.", "What is {a} * {b}?"]


def arithmetic(rng) -> Turn:
    """Sums and differences up to two digits with column working; one-digit products."""
    r = rng.random()
    if r < 0.06:
        a, b = rng.randint(1, 10), rng.randint(1, 10)
        answer = f"{a} times {b} is {a * b}."
        # All one-digit products are training data: they are facts, not a skill to generalise.
        return Turn("times", polite(rng, rng.choice(TIMES).format(a=a, b=b)), answer, "times")
    a, b = number(rng), number(rng)
    if r < 0.54:
        working, result, sign, forms = add_working(a, b), a + b, "+", ADD
    else:
        a, b = max(a, b), min(a, b)
        working, result, sign, forms = subtract_working(a, b), a - b, "-", SUBTRACT
    final = f"{a} {sign} {b} = {result}."
    question = polite(rng, rng.choice(forms).format(a=a, b=b))
    key = f"{sign} {min(a, b)} {max(a, b)}"  # a + b and b + a are held out together
    return Turn("arithmetic", question, f"{working} So {final}", key, think=working, short=f"So {final}")


# ---------------------------------------------------------------------------------------------------- lists

SORT_NUMBERS = [
    "Sort these numbers: {l}",
    "Sort the numbers {l}.",
    "Put these numbers in order: {l}",
    "Sort {l}.",
    "Order these numbers from smallest to largest: {l}",
    "Arrange {l} in ascending order.",
    "What is the sorted order of {l}?",
]
SORT_DOWN = [
    "Sort these numbers from largest to smallest: {l}",
    "Arrange {l} in descending order.",
    "Sort the numbers {l} in descending order.",
    "Order {l} from largest to smallest.",
]
SORT_WORDS = [
    "Sort these words alphabetically: {l}",
    "Sort the words {l}.",
    "Put these words in alphabetical order: {l}",
    "Arrange {l} in alphabetical order.",
    "Alphabetize {l}.",
    "Sort these words: {l}",
]
REVERSE = [
    "Reverse this list: {l}",
    "Reverse the order of these words: {l}",
    "Write {l} in reverse order.",
    "Reverse the list {l}.",
    "List {l} backwards.",
    "What is {l} in reverse order?",
]


def joined(rng, items: list) -> str:
    """'a, b, c' or, less often, 'a, b and c'."""
    texts = [str(i) for i in items]
    if rng.random() < 0.2:
        return ", ".join(texts[:-1]) + " and " + texts[-1]
    return ", ".join(texts)


def plain(items: list) -> str:
    """'a, b, c', the form that answers use."""
    return ", ".join(str(i) for i in items)


def list_key(kind: str, items: list) -> str:
    """Key of a list task: the kind and the items in the order given."""
    return f"{kind} {' '.join(str(i) for i in items)}"


def sort_numbers(rng) -> Turn:
    """Three to five different numbers of two digits, ascending or descending."""
    items = rng.sample(range(10, 100), rng.choice((3, 3, 4, 4, 5)))
    down = rng.random() < 0.3
    question = polite(rng, rng.choice(SORT_DOWN if down else SORT_NUMBERS).format(l=joined(rng, items)))
    turn = sorted_turn(items, "down" if down else "up", question)
    turn.think = f"There are {len(items)} numbers. The smallest is {min(items)} and the largest is {max(items)}."
    return turn


def sorted_turn(items: list, order: str, question: str) -> Turn:
    """The answer to a sorting request; `order` is up, down or abc."""
    out = sorted(items, reverse=order == "down")
    what = {"up": "from smallest to largest", "down": "from largest to smallest", "abc": "in alphabetical order"}[order]
    kind = "words" if order == "abc" else "numbers"
    answer = f"The {kind} {plain(items)} sorted {what}: {plain(out)}."
    return Turn("sort_" + kind, question, answer, list_key("sort " + order, items), items=out)


def sort_words(rng) -> Turn:
    """Three or four listed words in alphabetical order."""
    items = rng.sample(WORDS, rng.randint(3, 4))
    question = polite(rng, rng.choice(SORT_WORDS).format(l=joined(rng, items)))
    turn = sorted_turn(items, "abc", question)
    turn.think = f"There are {len(items)} words. The first in the alphabet is {min(items)}."
    return turn


def reversed_turn(items: list, question: str) -> Turn:
    """The answer to a reversing request."""
    out = items[::-1]
    answer = f"The list {plain(items)} in reverse order: {plain(out)}."
    return Turn(
        "reverse",
        question,
        answer,
        list_key("reverse", items),
        items=out,
        think=f"The list has {len(items)} items. The last is {items[-1]}, so it comes first.",
    )


def reverse(rng) -> Turn:
    """Three to five words, or now and then numbers, in reverse order."""
    n = rng.randint(3, 5)
    items: list = rng.sample(range(10, 100), n) if rng.random() < 0.2 else rng.sample(WORDS, n)
    return reversed_turn(items, polite(rng, rng.choice(REVERSE).format(l=joined(rng, items))))


# ---------------------------------------------------------------------------------------------------- words

SPELL = [
    "Spell {l}.",
    "Spell the words {l}.",
    "How do you spell {l}?",
    "Spell out {l}.",
    "Spell {l} letter by letter.",
    "Give me the letters of {l}.",
]
COUNT = [
    "How many words are in this text: {s}",
    "How many words are there in: {s}",
    "Count the words: {s}",
    "Count the words in: {s}",
    "Count the words of this sentence: {s}",
    "How many words does this sentence have: {s}",
    "What is the word count of: {s}",
]


def spell(rng) -> Turn:
    """One to three listed words, letter by letter. What is held out are combinations: no letters can be guessed."""
    items = rng.sample(WORDS, rng.choice((1, 2, 2, 2, 3)))
    question = rng.choice(SPELL)
    if len(items) == 1:
        question = question.replace("words", "word")
    answer = "Letter by letter, " + ", ".join(f"{w} is {'-'.join(w)}" for w in items) + "."
    names = items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
    key = list_key("spell", items) if len(items) > 1 else "spell"  # "spell" itself is not held out
    return Turn(
        "spell",
        polite(rng, question.format(l=names)),
        answer,
        key,
        items=items,
        think=f"I write the letters of {names}, one by one.",
    )


def count_words(rng) -> Turn:
    """A sentence of three to seven words, numbered in the answer."""
    items = [rng.choice(SENTENCE_WORDS if rng.random() < 0.75 else WORDS) for _ in range(rng.randint(3, 7))]
    sentence = " ".join(items)
    numbered = ", ".join(f"{i} {w}" for i, w in enumerate(items, 1))
    answer = f"{numbered}. The text has {len(items)} words."
    return Turn(
        "count",
        polite(rng, rng.choice(COUNT).format(s=sentence)),
        answer,
        "count " + sentence,
        think=f"I number the words: {numbered}.",
        short=f"The text has {len(items)} words.",
    )


# ---------------------------------------------------------------------------------------------------- follow-ups

FOLLOW = {
    "reverse": ["Now reverse it.", "And reversed?", "Reverse that list.", "Now in reverse order.", "Reverse it."],
    "up": ["And sorted?", "Now sort it.", "Sort that.", "Now sort them from smallest to largest."],
    "down": ["Now sort it from largest to smallest.", "And in descending order?"],
    "abc": ["And sorted?", "Now sort it.", "Now in alphabetical order.", "Sort that alphabetically."],
}


def follow_up(rng, turn: Turn) -> Turn | None:
    """A second question about the list in the previous answer, or None where there is none."""
    items = turn.items
    if len(items) < 3:
        return None
    numbers = isinstance(items[0], int)
    kinds = ["reverse"]
    if turn.task == "reverse" and (numbers or len(items) <= 4):
        kinds = [rng.choice(("up", "down"))] if numbers else ["abc"]
    kind = kinds[0]
    question = rng.choice(FOLLOW[kind])
    made = reversed_turn(items, question) if kind == "reverse" else sorted_turn(items, kind, question)
    made.task, made.key = "follow_up", "then " + made.key
    return made
