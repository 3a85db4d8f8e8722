"""What a request asks of the sampler: names and defaults of llama-cpp-python.

The target distribution is llama.cpp's sampler chain over a row of logits, in this order: logit bias, penalties, DRY,
grammar, top-k, typical, top-p, min-p, temperature. Every mode keeps it (see `native/sampling/`).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from pytrimode.formats.constraint import Constraint, of_grammar
from pytrimode.formats.gbnf import TokenOf

DEFAULT_TEMPERATURE = 0.8
"""Of a completion; llama-cpp-python's."""
DEFAULT_CHAT_TEMPERATURE = 0.2
"""Of a chat completion; llama-cpp-python's."""

REJECTION = "rejection"
COUPLED = "coupled"

SAMPLERS = {
    REJECTION: "accept a draft with probability min(1, p/q): accepts most",
    COUPLED: "target and draft take the Gumbel-max token under the same noise: a seed gives the same text in ar and in "
    "self-spec, for any block length",
}
"""How a temperature and drafts go together; both give exactly the distribution of mode ar."""


class SamplingArguments(TypedDict, total=False):
    """The keyword arguments of `Sampling`, for signatures; `temperature` has a default in each of them."""

    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    penalty_last_n: int
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: Sequence[str]
    logit_bias: Mapping[int | str, float] | None
    grammar: str | Constraint
    sampler: str | None
    seed: int | None


@dataclass(frozen=True)
class Sampling:
    """Options of one request. Raises ValueError for values out of range; a grammar is parsed later."""

    temperature: float = 0.0
    """0: greedy, without any random draw."""
    top_k: int = 40
    """0 or less: off."""
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_last_n: int = 64
    """Emitted tokens that penalties look back at."""
    dry_multiplier: float = 0.0
    """0: no DRY."""
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    """-1: the context."""
    dry_sequence_breakers: Sequence[str] = ("\n", ":", '"', "*")
    logit_bias: Mapping[int | str, float] | None = None
    """Added to the logits of token ids (numbers, or strings of digits as in JSON)."""
    grammar: str | Constraint = ""
    """GBNF with a rule `root`, or a grammar that begins with %llguidance, in llguidance's syntax; empty: none."""
    sampler: str | None = None
    """One of `SAMPLERS`. None: rejection, but coupled where a seed alone would not give the same text again."""
    seed: int | None = None
    """None: a new one for every request."""
    _bias: dict[int, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and low <= value <= high):
                bounds = f"between {low:g} and {high:g}" if math.isfinite(high) else f"{low:g} or more"
                raise ValueError(f"{name} {value}: must be {bounds}")
        if self.repeat_penalty == 0:
            raise ValueError("repeat_penalty 0: must be more than 0 (1: off)")
        if self.sampler is not None and self.sampler not in SAMPLERS:
            raise ValueError(f"unknown sampler {self.sampler!r}: use one of {', '.join(SAMPLERS)}")
        try:
            bias = {int(token): float(value) for token, value in (self.logit_bias or {}).items()}
        except (TypeError, ValueError) as error:
            raise ValueError(f"logit_bias: token ids and numbers are needed: {error}") from error
        object.__setattr__(self, "_bias", bias)

    def engine_arguments(self, n_vocab: int, *, repeatable: bool = True) -> dict[str, Any]:
        """Keyword arguments of the engine's `submit`. `repeatable`: drafts have the same block lengths every time.

        Raises ValueError for a biased token outside the vocabulary.
        """
        outside = [token for token in self._bias if not 0 <= token < n_vocab]
        if outside:
            raise ValueError(f"logit_bias: token id {outside[0]} is not in the vocabulary of {n_vocab}")
        seed = secrets.randbits(64) if self.seed is None else self.seed % 2**64
        arguments = {name: getattr(self, name) for name in _PASSED}
        return arguments | {
            "dry_sequence_breakers": list(self.dry_sequence_breakers),
            "logit_bias": self._bias,
            "coupled": (self.sampler or self._default_sampler(repeatable)) == COUPLED,
            "seed": seed,
        }

    def constraint(self, token_of: TokenOf) -> Constraint | None:
        """What an answer must be. `token_of`: the id of a special token by its name, or -1.

        Raises ValueError for a grammar that does not compile.
        """
        if isinstance(self.grammar, Constraint):
            return self.grammar
        return of_grammar(self.grammar, token_of) if self.grammar else None

    def _default_sampler(self, repeatable: bool) -> str:
        return REJECTION if repeatable or self.seed is None else COUPLED


_RANGES = [
    ("temperature", 0.0, math.inf),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("typical_p", 0.0, 1.0),
    ("repeat_penalty", 0.0, math.inf),
    ("frequency_penalty", -math.inf, math.inf),
    ("presence_penalty", -math.inf, math.inf),
    ("penalty_last_n", 0, math.inf),
    ("dry_multiplier", 0.0, math.inf),
    ("dry_penalty_last_n", -1, math.inf),
]
_PASSED = (
    "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "frequency_penalty", "presence_penalty",
    "penalty_last_n", "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n",
)  # fmt: skip
