"""Task generators: short Python functions and classes from a description."""

from __future__ import annotations

from tasks import Turn, polite
from words import ATTRIBUTES, CLASSES, LIST_PARAMS, NOUNS, PARAMS, VERBS

BINARY = {  # operation: (verb phrase, operator, noun of the result)
    "add": ("adds {a} and {b}", "{a} + {b}", "the sum of {a} and {b}"),
    "subtract": ("subtracts {b} from {a}", "{a} - {b}", "the difference of {a} and {b}"),
    "multiply": ("multiplies {a} and {b}", "{a} * {b}", "the product of {a} and {b}"),
    "divide": ("divides {a} by {b}", "{a} / {b}", "the quotient of {a} and {b}"),
    "larger": ("returns the larger of {a} and {b}", "max({a}, {b})", "the larger of {a} and {b}"),
    "smaller": ("returns the smaller of {a} and {b}", "min({a}, {b})", "the smaller of {a} and {b}"),
    "equal": ("checks whether {a} equals {b}", "{a} == {b}", "whether {a} equals {b}"),
    "average": ("returns the average of {a} and {b}", "({a} + {b}) / 2", "the average of {a} and {b}"),
}
FILTERS = {
    "even": "item % 2 == 0",
    "odd": "item % 2 == 1",
    "positive": "item > 0",
    "negative": "item < 0",
    "nonzero": "item != 0",
}
TOTALS = {  # loop accumulators: (verb phrase, start, body, noun)
    "sum": ("adds up all {p}", "0", "total += item", "the sum of all {p}"),
    "product": ("multiplies all {p}", "1", "total *= item", "the product of all {p}"),
    "count": ("counts the {p}", "0", "total += 1", "the number of {p}"),
    "squares": ("adds up the squares of all {p}", "0", "total += item * item", "the sum of the squares of all {p}"),
}
TEXTS = {
    "upper": ("turns text into upper case", "text.upper()", "the text in upper case"),
    "lower": ("turns text into lower case", "text.lower()", "the text in lower case"),
    "reverse": ("reverses a text", "text[::-1]", "the text in reverse"),
    "length": ("returns the length of a text", "len(text)", "the length of the text"),
    "palindrome": ("checks whether a text is a palindrome", "text == text[::-1]", "whether the text is a palindrome"),
    "words": ("splits a text into words", "text.split()", "the words of the text"),
    "first": ("returns the first letter of a text", "text[0]", "the first letter of the text"),
    "strip": ("removes spaces around a text", "text.strip()", "the text without spaces around it"),
}
ASK = [
    "Write a Python function {f} that {d}.",
    "Write a function called {f} that {d}.",
    "Write a function {f} that {d}.",
    "Define a Python function {f} that {d}.",
    "I need a Python function named {f} that {d}.",
    "Implement {f} in Python: a function that {d}.",
]
ASK_CLASS = [
    "Write a Python class {c} with the attributes {l}.",
    "Write a class {c} with {l}.",
    "Create a Python class {c} with attributes {l}.",
    "Define a class called {c} that has {l}.",
    "I need a Python class {c} with the attributes {l}.",
]


def fenced(code: str) -> str:
    """Code in a Markdown fence."""
    return f"```python\n{code}\n```"


def function_turn(rng, name: str, params: str, phrase: str, noun: str, body: str) -> Turn:
    """Wrap a body in a function with a docstring."""
    code = f'def {name}({params}):\n    """Return {noun}."""\n{body}'
    question = polite(rng, rng.choice(ASK).format(f=name, d=phrase))
    think = f"The function {name} takes {params} and returns {noun}."
    return Turn("function", question, fenced(code), f"function {name} {params} {phrase}", think=think)


def function(rng) -> Turn:
    """A function of two values, over a list, or on a text."""
    name = rng.choice(VERBS) + "_" + rng.choice(NOUNS)
    r = rng.random()
    if r < 0.4:
        a, b = rng.sample(PARAMS, 2)
        phrase, expression, noun = (t.format(a=a, b=b) for t in BINARY[rng.choice(list(BINARY))])
        return function_turn(rng, name, f"{a}, {b}", phrase, noun, f"    return {expression}")
    if r < 0.8:
        p = rng.choice(LIST_PARAMS)
        if rng.random() < 0.5:
            kind = rng.choice(list(FILTERS))
            phrase, noun = f"returns the {kind} {p} of a list", f"the {kind} {p}"
            return function_turn(rng, name, p, phrase, noun, f"    return [item for item in {p} if {FILTERS[kind]}]")
        phrase, start, step, noun = (t.format(p=p) for t in TOTALS[rng.choice(list(TOTALS))])
        body = f"    total = {start}\n    for item in {p}:\n        {step}\n    return total"
        return function_turn(rng, name, p, phrase, noun, body)
    phrase, expression, noun = TEXTS[rng.choice(list(TEXTS))]
    return function_turn(rng, name, "text", phrase, noun, f"    return {expression}")


def listed(items: list[str]) -> str:
    """'a', 'a and b' or 'a, b and c'."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def python_class(rng) -> Turn:
    """A class with one to three attributes, and in half of the cases a method that describes it."""
    name, attributes = rng.choice(CLASSES), rng.sample(ATTRIBUTES, rng.choice((1, 2, 2, 2, 3, 3)))
    question = rng.choice(ASK_CLASS).format(c=name, l=listed(attributes))
    article = "An" if name[0] in "AEIOU" else "A"
    lines = [
        f"class {name}:",
        f'    """{article} {name.lower()} with {listed(attributes)}."""',
        "",
        f"    def __init__(self, {', '.join(attributes)}):",
    ]
    lines += [f"        self.{a} = {a}" for a in attributes]
    method = rng.random() < 0.4
    if method:
        shown = attributes[0]
        question = question[:-1] + rng.choice(
            (f" and a method that returns the {shown}.", f" and a method get_{shown}.")
        )
        lines += ["", f"    def get_{shown}(self):", f"        return self.{shown}"]
    think = f"The class {name} stores {listed(attributes)}."
    key = f"class {name} {' '.join(attributes)} {method}"
    return Turn("class", polite(rng, question), fenced("\n".join(lines)), key, think=think)
