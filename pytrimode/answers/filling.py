"""Filling gaps: a text with several of them, from left to right, each with an eye on what stands behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from typing_extensions import TypedDict

from pytrimode.answers.decision import checked_choices, estimates
from pytrimode.answers.step import StepMaker, steps
from pytrimode.options.option import checked

if TYPE_CHECKING:
    from pytrimode.engine_loop import Cancellation, EngineLoop
    from pytrimode.formats.constraint import Constraint
    from pytrimode.options.generation_options import ResolvedOptions

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
class Filling:
    """A template behind a prompt, checked.

    Attributes:
        tokenize: token ids of a text, without special tokens.
        infill: (tokens before a gap, tokens behind it, gap) -> how diffusion fills it.
        mask: the mask id, which stands for each token of gaps that are still open.
    """

    prompt: Sequence[int]
    parts: Sequence[str | Gap]
    tokenize: Callable[[str], list[int]]
    infill: Callable[[list[int], list[int], Gap], tuple[ResolvedOptions, StepMaker]]
    mask: int

    def fill(
        self, loop: EngineLoop, *, lora_scales: Sequence[float], cancellation: Cancellation | None = None
    ) -> Filled:
        """Fill the gaps, from left to right, beside other requests.

        Raises QueueFullError when too many run and wait, CacheFullError where running requests leave no room,
        RequestCancelledError once `cancellation` is called.
        """
        before, text = list(self.prompt), ""
        gaps: list[FilledGap] = []
        parts = list(self.parts)
        while parts:
            part = parts.pop(0)
            if isinstance(part, str):
                before += self.tokenize(part)
                text += part
            elif part.choices is None:
                tokens, gap = self._write(loop, before, self._behind(parts), part, cancellation)
                before += tokens
                text += gap["text"]
                gaps.append(gap)
            else:
                following = parts[0] if parts and isinstance(parts[0], str) else ""
                del parts[: following != ""]
                gap = self._choose(loop, before, part.choices, following, lora_scales, cancellation)
                # Together with what follows: a token may have characters of both.
                before += self.tokenize(gap["text"] + following)
                text += gap["text"] + following
                gaps.append(gap)
        return {"text": text, "gaps": gaps}

    def _write(
        self, loop: EngineLoop, before: list[int], behind: list[int], gap: Gap, cancellation: Cancellation | None
    ) -> tuple[list[int], FilledGap]:
        made = list(steps(loop, before, *self.infill(before, behind, gap), cancellation))
        ending = made[-1].ending
        reason: FinishReason = "stop" if ending is not None and ending.reason == "stop" else "length"
        tokens = [token for step in made for token in step.tokens]
        return tokens, {"text": "".join(step.text for step in made), "finish_reason": reason, "probability": None}

    def _choose(
        self, loop: EngineLoop, before: list[int], choices: Sequence[str], following: str,
        lora_scales: Sequence[float], cancellation: Cancellation | None,
    ) -> FilledGap:  # fmt: skip
        """Return the choice with which mode ar finds it and the text behind it likeliest, and its share of all."""
        texts = [self.tokenize(choice + following[:LOOK_AHEAD]) for choice in choices]
        loop.reserve(1)
        try:
            scores = loop.score(before, texts, lora_scales=lora_scales, cancellation=cancellation)
        finally:
            loop.free(1)
        found = estimates([math.fsum(of_tokens) for of_tokens in scores])
        best = max(range(len(choices)), key=lambda i: found[i]["logprob"])
        return {"text": choices[best], "finish_reason": "stop", "probability": found[best]["probability"]}

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
