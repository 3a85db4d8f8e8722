"""Task generators with long answers, of 50 to 140 tokens: steps, tables, several functions.

They are made of what the short tasks teach. Only answers of several blocks show what drafting can gain: with 31 tokens,
the mean of the short ones, even perfect drafts of 16 bring no more than 6.4 tokens per forward.
"""

from __future__ import annotations

from code_tasks import class_lines, fenced, function_parts, listed
from tasks import Turn, add_working, joined, list_key, plain, polite
from words import ATTRIBUTES, CLASSES, SENTENCE_WORDS, WORDS

SUM = ["What is {t}?", "Add up {l}.", "What is the sum of {l}?", "Calculate {t} step by step.", "{t} = ?"]
SORT_STEPS = [
    "Sort {l} step by step.",
    "Sort these step by step: {l}",
    "Show me how to sort {l}.",
    "Sort {l} and show each step.",
]
TABLE = [
    "Make a table of the words {l}.",
    "Write a table with the words {l}.",
    "Give me a table of {l}.",
    "Show {l} in a table.",
]
REVERSE_SORT = [
    "Reverse the list {l}, then sort it.",
    "Reverse and then sort: {l}",
    "Write {l} in reverse order and then sorted.",
]
SPELL_MORE = ["Spell these words: {l}", "Spell each of these words: {l}", "Spell all of {l}."]
NUMBER = ["Number the words: {s}", "Number each word of this text: {s}", "Number the words of: {s}"]


def sum_three(rng) -> Turn:
    """The sum of three numbers, two columns at a time; the first two make at most 99."""
    a = rng.randint(10, 79)
    b, c = rng.randint(10, 99 - a) if a < 89 else 10, rng.randint(10, 99)
    terms = f"{a} + {b} + {c}"
    question = polite(rng, rng.choice(SUM).format(t=terms, l=f"{a}, {b} and {c}"))
    first = f"{add_working(a, b)} So {a} + {b} = {a + b}."
    second = f"{add_working(a + b, c)} So {a + b} + {c} = {a + b + c}."
    key = f"sum {' '.join(str(n) for n in sorted((a, b, c)))}"
    return Turn("sum", question, f"{first} {second} So {terms} = {a + b + c}.", key)


def sort_steps(rng) -> Turn:
    """Four or five numbers, or three or four words, by selection: what is the smallest of the rest?"""
    numbers = rng.random() < 0.6
    items: list = rng.sample(range(10, 100), rng.randint(4, 5)) if numbers else rng.sample(WORDS, rng.randint(3, 4))
    question = polite(rng, rng.choice(SORT_STEPS).format(l=joined(rng, items)))
    rest, steps = list(items), []
    while len(rest) > 1:
        first = min(rest)
        steps.append(f"Of {plain(rest)} the {'smallest' if numbers else 'first'} is {first}.")
        rest.remove(first)
    answer = f"{' '.join(steps)} The last is {rest[0]}. Sorted: {plain(sorted(items))}."
    return Turn("steps", question, answer, list_key("steps", items))


def table(rng) -> Turn:
    """A Markdown table of four to six words: letters, first and last letter."""
    items = rng.sample(WORDS, rng.randint(4, 6))
    rows = [f"| {w} | {len(w)} | {w[0]} | {w[-1]} |" for w in items]
    answer = "\n".join(["| word | letters | first | last |", "|---|---|---|---|", *rows])
    return Turn(
        "table", polite(rng, rng.choice(TABLE).format(l=joined(rng, items))), answer, list_key("table", items)
    )


def reverse_sort(rng) -> Turn:
    """A list of four or five numbers or words reversed, then sorted."""
    items: list = rng.sample(range(10, 100), 5) if rng.random() < 0.5 else rng.sample(WORDS, 4)
    kind, how = (
        ("numbers", "from smallest to largest") if isinstance(items[0], int) else ("words", "in alphabetical order")
    )
    answer = (
        f"The list {plain(items)} in reverse order: {plain(items[::-1])}. "
        f"The {kind} {plain(items[::-1])} sorted {how}: {plain(sorted(items))}."
    )
    question = polite(rng, rng.choice(REVERSE_SORT).format(l=joined(rng, items)))
    return Turn("reverse_sort", question, answer, list_key("reverse sort", items))


def spell_more(rng) -> Turn:
    """Four or five words, letter by letter."""
    items = rng.sample(WORDS, rng.randint(4, 5))
    answer = "Letter by letter, " + ", ".join(f"{w} is {'-'.join(w)}" for w in items) + "."
    question = polite(rng, rng.choice(SPELL_MORE).format(l=joined(rng, items)))
    return Turn("spell_more", question, answer, list_key("spell more", items))


def number_words(rng) -> Turn:
    """A sentence of eight to twelve words, numbered."""
    items = [rng.choice(SENTENCE_WORDS) for _ in range(rng.randint(8, 12))]
    sentence = " ".join(items)
    numbered = ", ".join(f"{i} {w}" for i, w in enumerate(items, 1))
    answer = f"{numbered}. The text has {len(items)} words."
    return Turn("number", polite(rng, rng.choice(NUMBER).format(s=sentence)), answer, "number " + sentence)


def two_functions(rng) -> Turn:
    """Two functions of one program."""
    parts = [function_parts(rng) for _ in range(2)]
    asked = " and ".join(f"{name}, which {phrase}" for name, phrase, _ in parts)
    question = polite(rng, rng.choice(("Write two Python functions: {a}.", "Write the functions {a}.")).format(a=asked))
    key = "functions " + " ".join(f"{name} {phrase}" for name, phrase, _ in parts)
    return Turn("functions", question, fenced("\n\n\n".join(code for _, _, code in parts)), key)


def full_class(rng) -> Turn:
    """A class of two or three attributes with a method for each."""
    name, attributes = rng.choice(CLASSES), rng.sample(ATTRIBUTES, rng.randint(2, 3))
    lines = class_lines(name, attributes)
    for a in attributes:
        lines += ["", f"    def get_{a}(self):", f"        return self.{a}"]
    ask = rng.choice(("Write a Python class {c} with a method for each of {l}.", "Write a class {c} with getters for {l}."))
    question = polite(rng, ask.format(c=name, l=listed(attributes)))
    return Turn("full_class", question, fenced("\n".join(lines)), f"full class {name} {' '.join(attributes)}")
