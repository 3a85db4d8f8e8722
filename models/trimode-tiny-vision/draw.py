#!/usr/bin/env python3
"""Draw pictures and ask about them: shapes on a grid, a digit, a printed word.

    python draw.py FOLDER            # the 200 held-out pictures as PNG, and questions.json
    python draw.py FOLDER --count 5  # five of each kind

Sides are multiples of 28, so that preprocessing leaves every pixel as it is. Letters are those of Pillow's bitmap font.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import _text_model  # noqa: F401
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tasks import is_heldout
from words import WORDS

CELL = 28
COLOURS = {"red": (215, 40, 40), "green": (40, 155, 60), "blue": (50, 80, 220), "yellow": (240, 195, 30),
           "black": (30, 30, 30)}  # fmt: skip
INKS = ("red", "green", "blue", "black")
"""Colours of letters: yellow ones on white would be hard to read."""
SHAPES = ("circle", "square", "triangle")
SHORT_WORDS = [word for word in WORDS if len(word) <= 6]
MOST = 6
"""Shapes in a picture."""
KINDS = ("shapes", "digit", "word")
SHARES = (0.5, 0.2, 0.3)
LABELS = ("kind", "colour", "shape", "same", "of_shape", "of_colour", "all", "digit", "word")
N_CLASSES = (len(KINDS), 1 + len(COLOURS), 1 + len(SHAPES), *[MOST + 1] * 4, 10, len(SHORT_WORDS))


@dataclass
class Scene:
    """A picture and what can be asked about it.

    Attributes:
        kind: one of KINDS.
        key: what is drawn and where: decides what is held out.
        pixels: uint8 [height, width, 3].
        labels: int64 [cells, len(LABELS)]: what is in each cell and in the picture; -1 where nothing is to be said.
        questions: (task, question, answer).
        things: of shapes, the colour and the shape in each cell that has one.
    """

    kind: str
    key: str
    pixels: np.ndarray
    labels: np.ndarray
    questions: list[tuple[str, str, str]]
    things: dict[int, tuple[str, str]] = field(default_factory=dict)


def paper(rng: random.Random, columns: int, rows: int) -> Image.Image:
    """An empty picture, white or nearly."""
    light = rng.randint(225, 255)
    tint = tuple(min(255, light + rng.randint(-6, 6)) for _ in range(3))
    return Image.new("RGB", (columns * CELL, rows * CELL), tint)


def shade(rng: random.Random, colour: str) -> tuple[int, ...]:
    """One of the shades that count as a colour."""
    return tuple(min(255, max(0, value + rng.randint(-20, 20))) for value in COLOURS[colour])


def draw_shape(draw: ImageDraw.ImageDraw, shape: str, x: int, y: int, r: int, fill: tuple[int, ...]) -> None:
    """A shape around (x, y), of 2 r pixels at most."""
    if shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill)
    elif shape == "square":
        s = round(0.85 * r)
        draw.rectangle((x - s, y - s, x + s, y + s), fill)
    else:
        draw.polygon(((x, y - r), (x + r, y + r - 1), (x - r, y + r - 1)), fill)


def named(n: int, what: str) -> str:
    """'There are 3 red circles.'"""
    return f"There is 1 {what}." if n == 1 else f"There are {n} {what}s."


COUNT = ("How many {}s?", "How many {}s are there?", "How many {}s do you see?", "Count the {}s.")
COLOUR = ("What colour is the {}?", "Which colour has the {}?", "What is the colour of the {}?")
SHAPE = ("Which shape is {}?", "What shape is {}?", "What is {}?")
DIGIT = ("Which digit is this?", "What digit is this?", "Read the digit.", "Which number is this?")
WORD = ("Read the word.", "Which word is this?", "What does it say?", "What word is this?", "Read this.")


def shapes(rng: random.Random) -> Scene:
    """One to six shapes, each in a cell of its own."""
    columns, rows = rng.choice(((3, 3), (3, 3), (3, 2), (2, 3), (2, 2), (4, 2)))
    places = sorted(rng.sample(range(columns * rows), rng.randint(1, min(MOST, columns * rows))))
    palette = rng.sample(tuple(COLOURS), rng.choice((1, 2, 2, 3, 5)))
    forms = rng.sample(SHAPES, rng.choice((1, 2, 2, 3)))
    things = {place: (rng.choice(palette), rng.choice(forms)) for place in places}
    image = paper(rng, columns, rows)
    draw = ImageDraw.Draw(image)
    for place, (colour, shape) in things.items():
        r = rng.randint(8, 12)
        x, y = (CELL * at + 13 + rng.randint(r - 12, 13 - r) for at in (place % columns, place // columns))
        draw_shape(draw, shape, x, y, r, shade(rng, colour))
    key = f"{columns}x{rows} " + " ".join(f"{place} {colour} {shape}" for place, (colour, shape) in things.items())
    labels = shape_labels(things, columns * rows)
    return Scene("shapes", key, np.asarray(image), labels, shape_questions(rng, things), things)


def shape_labels(things: dict[int, tuple[str, str]], cells: int) -> np.ndarray:
    """What each cell holds, and how often that is in the picture."""
    labels = np.full((cells, len(LABELS)), -1)
    labels[:, 0], labels[:, 1:3], labels[:, 6] = KINDS.index("shapes"), 0, len(things)
    made = list(things.values())
    for place, (colour, shape) in things.items():
        counts = (made.count((colour, shape)), sum(s == shape for _, s in made), sum(c == colour for c, _ in made))
        labels[place, 1:6] = (1 + list(COLOURS).index(colour), 1 + SHAPES.index(shape), *counts)
    return labels


def shape_questions(rng: random.Random, things: dict[int, tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Up to three questions, the first of them about a shape and its colour."""
    made = list(things.values())
    colour, shape = rng.choice(made) if rng.random() < 0.85 else (rng.choice(tuple(COLOURS)), rng.choice(SHAPES))
    asked = [count_question(rng, f"{colour} {shape}", made.count((colour, shape)))]
    more = simple_questions(rng, made)
    asked += rng.sample(more, min(2, len(more)))
    rng.shuffle(asked)
    return asked


def simple_questions(rng: random.Random, made: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """All questions about a colour or a shape alone, the last of them about the number of shapes."""
    asked = []
    for one in SHAPES:
        colours = [c for c, s in made if s == one]
        if len(colours) == 1:
            asked.append(("colour", rng.choice(COLOUR).format(one), f"The {one} is {colours[0]}."))
        elif colours:
            asked.append(count_question(rng, one, len(colours)))
    for one in COLOURS:
        forms = [s for c, s in made if c == one]
        if len(forms) == 1:
            asked.append(("shape", rng.choice(SHAPE).format(one), f"The {forms[0]} is {one}."))
        elif forms:
            asked.append(count_question(rng, f"{one} shape", len(forms)))
    return [*asked, count_question(rng, "shape", len(made))]


def hard_questions(rng: random.Random, things: dict[int, tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Four questions for practice: those about one thing first, then counts of each kind of thing and of others."""
    made = list(things.values())
    simple = simple_questions(rng, made)
    counts = [count_question(rng, " ".join(thing), made.count(thing)) for thing in sorted(set(made))]
    counts += [question for question in simple if question[0] == "count"]
    rng.shuffle(counts)
    asked = ([question for question in simple if question[0] != "count"] + counts)[:4]
    rng.shuffle(asked)
    return asked


def count_question(rng: random.Random, what: str, n: int) -> tuple[str, str, str]:
    """'How many red circles?'"""
    return "count", rng.choice(COUNT).format(what), named(n, what)


def everything_said() -> list[str]:
    """Every question, and an answer with each word of answers."""
    things = [*SHAPES, "shape", *(f"{c} {s}" for c in COLOURS for s in (*SHAPES, "shape"))]
    said = [text.format(thing) for text in COUNT for thing in things] + [*DIGIT, *WORD]
    said += [text.format(one) for text in COLOUR for one in (*SHAPES, "digit", "word")]
    said += [text.format(one) for text in SHAPE for one in COLOURS]
    said += [named(n, thing) for n in range(MOST + 1) for thing in things]
    said += [f"The {one} is {c}." for one in (*SHAPES, "digit", "word") for c in COLOURS]
    return said + [f"The digit is {n}." for n in range(10)] + [f"The word is {w}." for w in SHORT_WORDS]


@cache
def glyphs(text: str) -> Image.Image:
    """The text in Pillow's bitmap font, one pixel a dot."""
    font = ImageFont.load_default_imagefont()
    width, height = font.getbbox(text)[2:]
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((0, 0), text, 255, font)
    return image


def written(rng: random.Random, text: str, columns: int, rows: int, scale: int, x: int, y: int) -> tuple:
    """A picture with a text at (x, y), the colour of its ink, and its key."""
    ink, image, mask = rng.choice(INKS), paper(rng, columns, rows), glyphs(text)
    mask = mask.resize((mask.width * scale, mask.height * scale), Image.Resampling.NEAREST)
    image.paste(shade(rng, ink), (x, y), mask)
    labels = np.full((columns * rows, len(LABELS)), -1)
    labels[:, 1] = 1 + list(COLOURS).index(ink)
    return np.asarray(image), labels, ink, f"{text} {ink} {scale} {x} {y}"


def digit(rng: random.Random) -> Scene:
    """A digit of 33 or 44 pixels in a picture of 56 x 56."""
    n, scale = rng.randint(0, 9), rng.choice((3, 4))
    x, y = rng.randint(4, 52 - 6 * scale), rng.randint(0, 56 - 11 * scale)
    pixels, labels, ink, key = written(rng, str(n), 2, 2, scale, x, y)
    labels[:, 0], labels[:, 7] = KINDS.index("digit"), n
    asked = [("digit", rng.choice(DIGIT), f"The digit is {n}.")]
    if rng.random() < 0.2:
        asked.append(("ink", rng.choice(COLOUR).format("digit"), f"The digit is {ink}."))
    rng.shuffle(asked)
    return Scene("digit", key, pixels, labels, asked)


def word(rng: random.Random) -> Scene:
    """One of SHORT_WORDS, 22 pixels high, in a picture of 84 x 28."""
    text = rng.choice(SHORT_WORDS)
    pixels, labels, ink, key = written(rng, text, 3, 1, 2, rng.randint(1, 10), rng.randint(0, 6))
    labels[:, 0], labels[:, 8] = KINDS.index("word"), SHORT_WORDS.index(text)
    asked = [("word", rng.choice(WORD), f"The word is {text}.")]
    if rng.random() < 0.2:
        asked.append(("ink", rng.choice(COLOUR).format("word"), f"The word is {ink}."))
    rng.shuffle(asked)
    return Scene("word", key, pixels, labels, asked)


def scene(rng: random.Random, kind: str | None = None, *, heldout: bool = False) -> Scene:
    """A picture for training, or one that training never has."""
    kind = kind or rng.choices(KINDS, SHARES)[0]
    make = {"shapes": shapes, "digit": digit, "word": word}[kind]
    while True:
        made = make(rng)
        if is_heldout(made.key) == heldout:
            return made


def heldout_scenes(seed: int = 7, n: int = 200) -> list[Scene]:
    """The held-out pictures, each with one question: half of them shapes."""
    rng, scenes = random.Random(seed), []
    for kind, share in zip(KINDS, SHARES, strict=True):
        scenes += [scene(rng, kind, heldout=True) for _ in range(round(n * share))]
    for made in scenes:
        made.questions = made.questions[:1]
    return scenes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write the pictures")
    parser.add_argument("--count", type=int, default=200, help="how many of each kind at most (default: all)")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for made in heldout_scenes():
        number = sum(entry["kind"] == made.kind for entry in entries)
        if number < args.count:
            name = f"{made.kind}-{number:03}.png"
            Image.fromarray(made.pixels).save(args.folder / name)
            ((task, question, answer),) = made.questions
            entries.append({"image": name, "kind": made.kind, "task": task, "question": question, "answer": answer})
    (args.folder / "questions.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
