"""Questions about pytrimode itself, and greetings: one fixed answer per topic, many wordings."""

from __future__ import annotations

import json
from pathlib import Path

from tasks import Turn, polite

_DATA = json.loads((Path(__file__).resolve().parent / "topics.json").read_text())
# (names a person may use, answer) and (questions, answer)
TOPICS: list[tuple[list[str], str]] = [(t["names"], t["answer"]) for t in _DATA["topics"]]
SMALL_TALK: list[tuple[list[str], str]] = [(t["questions"], t["answer"]) for t in _DATA["small_talk"]]

ASK = [
    "What does {x} do?",
    "What is {x}?",
    "Explain {x}.",
    "What is {x} for?",
    "Tell me about {x}.",
    "How does {x} work?",
    "Can you explain {x}?",
    "What does {x} mean?",
    "I do not understand {x}.",
    "Describe {x}.",
    "Why would I use {x}?",
    "{x}?",
    "In pytrimode, what is {x}?",
    "What can you tell me about {x}?",
]


def question_answer(rng) -> Turn:
    """A question about pytrimode; held out are pairs of a name and a wording."""
    t = rng.randrange(len(TOPICS))
    names, answer = TOPICS[t]
    n, form = rng.randrange(len(names)), rng.randrange(len(ASK))
    question = polite(rng, ASK[form].format(x=names[n])) if form != 11 else ASK[form].format(x=names[n])
    if (
        question[0].islower()
        and rng.random() < 0.5
        and not names[n].startswith(("pytrimode", "trimode", "linear", "dlm"))
    ):
        question = question[0].upper() + question[1:]
    return Turn("pytrimode", question, answer, f"qa {t} {n} {form}", think=f"The question is about {names[n]}.")


def small_talk(rng) -> Turn:
    """Greetings and the like."""
    t = rng.randrange(len(SMALL_TALK))
    questions, answer = SMALL_TALK[t]
    q = rng.randrange(len(questions))
    return Turn("small_talk", questions[q], answer, "talk", think="The user is friendly.")
