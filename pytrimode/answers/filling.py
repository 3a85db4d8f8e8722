"""Filling gaps: a text with several of them, from left to right, each with an eye on what stands behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from typing_extensions import TypedDict

from pytrimode.answers.decision import checked_choices, estimates
from pytrimode.options.option import checked

if TYPE_CHECKING:
    from pytrimode.formats.constraint import Constraint

FinishReason = Literal["stop", "length"]
DEFAULT_GAP = 8
"""Masks of a gap that says nothing of itself."""
LOOK_AHEAD = 256
"""Characters behind a gap that its choices are compared with."""


@dataclass(frozen=True)
class Gap:
    """A place in a text that the model fills.

    With `choices` one of these texts stands there. Else at most `max_tokens` tokens do, whose text as a whole matches
    `regex` (Rust's syntax) if there is one.

    Raises ValueError and TypeError for what cannot be.
    """

    max_tokens: int = DEFAULT_GAP
    choices: Sequence[str] | None = None
    regex: str | None = None

    def __post_init__(self) -> None:
        if checked("max_tokens", "int", self.max_tokens) < 1:
            raise ValueError(f"a gap's max_tokens is {self.max_tokens}; it has at least one token")
        if self.choices is not None:
            if self.regex is not None:
                raise ValueError("a gap has choices or a regex, not both")
            object.__setattr__(self, "choices", tuple(checked_choices(self.choices)))
        if self.regex is not None:
            checked("regex", "str", self.regex)

    def constraint(self) -> Constraint | None:
        """Return the grammar of its regex. Raises ValueError for one that does not compile."""
        if self.regex is None:
            return None
        from pytrimode.formats.constraint import of_regex

        return of_regex(self.regex, "regex")


class Written(NamedTuple):
    """What was written into a gap. `reached_end`: before its masks ran out."""

    tokens: list[int]
    text: str
    reached_end: bool


class FilledGap(TypedDict):
    """What stands in a gap. `finish_reason`: "length" where masks ran out, which may leave a regex unmatched.

    `probability`: of a choice, its share among all of them.
    """

    text: str
    finish_reason: FinishReason
    probability: float | None


class Filled(TypedDict):
    """`text`: the whole template without gaps. `gaps`: in their order."""

    text: str
    gaps: list[FilledGap]


Template = Sequence["str | Gap"]


def checked_template(template: Template) -> list[str | Gap]:
    """Return the parts without empty texts, texts in a row joined. Raises TypeError and ValueError."""
    if isinstance(template, (str, bytes)):
        raise TypeError("template is a list of texts and gaps, such as ['The ', Gap(4), ' sleeps.'], not a text")
    parts: list[str | Gap] = []
    for i, part in enumerate(template):
        if not isinstance(part, (str, Gap)):
            raise TypeError(f"template[{i}] is {type(part).__name__}; it must be a text or a Gap")
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        elif part != "":
            parts.append(part)
    if not any(isinstance(part, Gap) for part in parts):
        raise ValueError("template has no Gap")
    return parts


@dataclass(frozen=True)
class Filler:
    """Fills the gaps of templates.

    Attributes:
        tokenize: token ids of a text, without special tokens.
        write: (tokens before a gap, tokens behind it, gap) -> what diffusion puts there.
        score: (tokens before a gap, continuations) -> log-probabilities of the continuations' tokens by mode ar.
        mask: the mask id, which stands for each token of gaps that are still open.
    """

    tokenize: Callable[[str], list[int]]
    write: Callable[[list[int], list[int], Gap], Written]
    score: Callable[[list[int], list[list[int]]], list[list[float]]]
    mask: int

    def fill(self, prompt: Sequence[int], parts: Sequence[str | Gap]) -> Filled:
        """Fill the gaps of a checked template behind a prompt, from left to right."""
        before, text = list(prompt), ""
        gaps: list[FilledGap] = []
        at = 0
        while at < len(parts):
            part = parts[at]
            following = parts[at + 1] if at + 1 < len(parts) else ""
            if isinstance(part, str):
                before += self.tokenize(part)
                text += part
            elif part.choices is None:
                written = self.write(before, self._behind(parts[at + 1 :]), part)
                before += written.tokens
                text += written.text
                reason: FinishReason = "stop" if written.reached_end else "length"
                gaps.append(FilledGap(text=written.text, finish_reason=reason, probability=None))
            else:
                following = following if isinstance(following, str) else ""
                choice, probability = self._choose(before, part.choices, following)
                # Together with what follows: a token may have characters of both.
                before += self.tokenize(choice + following)
                text += choice + following
                gaps.append(FilledGap(text=choice, finish_reason="stop", probability=probability))
                at += following != ""
            at += 1
        return {"text": text, "gaps": gaps}

    def _choose(self, before: list[int], choices: Sequence[str], following: str) -> tuple[str, float]:
        """Return the choice with which mode ar finds it and the text behind it likeliest, and its share of all."""
        texts = [choice + following[:LOOK_AHEAD] for choice in choices]
        scores = self.score(before, [self.tokenize(text) for text in texts])
        found = estimates([math.fsum(of_tokens) for of_tokens in scores])
        best = max(range(len(choices)), key=lambda i: found[i]["logprob"])
        return choices[best], found[best]["probability"]

    def _behind(self, parts: Sequence[str | Gap]) -> list[int]:
        tokens: list[int] = []
        for part in parts:
            if isinstance(part, str):
                tokens += self.tokenize(part)
            elif part.choices is None:
                tokens += [self.mask] * part.max_tokens
            else:
                tokens += [self.mask] * max(len(self.tokenize(choice)) for choice in part.choices)
        return tokens
