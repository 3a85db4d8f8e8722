"""What a request asks of the sampler: names and defaults of llama-cpp-python.

The target distribution is llama.cpp's sampler chain over a row of logits, in this order: logit bias, penalties, DRY,
grammar, top-k, typical, top-p, min-p, temperature. Every mode keeps it (see `native/sampling/`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytrimode.formats.constraint import Constraint, of_grammar
from pytrimode.formats.gbnf import TokenOf
from pytrimode.options.defaults import DEFAULT_CHAT_TEMPERATURE, DEFAULT_TEMPERATURE
from pytrimode.options.option import engine_values, option, settle

REJECTION = "rejection"
COUPLED = "coupled"

SAMPLERS = {
    REJECTION: "accept a draft with probability min(1, p/q): accepts most",
    COUPLED: "target and draft take the Gumbel-max token under the same noise: a seed gives the same text in ar and in "
    "self-spec, for any block length",
}
"""How a temperature and drafts go together; both give exactly the distribution of mode ar."""

RANDOM_SEED = -1
"""As in llama.cpp."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. The fields are the rows of the option table (`pytrimode.options.option`).

    Raises TypeError and ValueError that name the option; a grammar is parsed by the engine.
    """

    temperature: float = option(
        0.0, "Temperature; 0: greedy, without a random draw.", flags=("--temp", "--temperature"), metavar="T",
        low=0, engine=True,
        default_text=f"{DEFAULT_TEMPERATURE}; {DEFAULT_CHAT_TEMPERATURE} in create_chat_completion and pytrimode chat",
    )  # fmt: skip
    top_k: int = option(40, "Keep the N likeliest; 0: all.", flags=("--top-k",), metavar="N", engine=True)
    top_p: float = option(
        0.95, "Keep the likeliest that together have probability P; 1: all.", flags=("--top-p",), metavar="P",
        low=0, high=1, engine=True,
    )  # fmt: skip
    min_p: float = option(
        0.05, "Keep those with at least P times the probability of the likeliest; 0: all.", flags=("--min-p",),
        metavar="P", low=0, high=1, engine=True,
    )  # fmt: skip
    typical_p: float = option(
        1.0, "Keep the most typical that together have this probability; 1: all.", low=0, high=1, engine=True
    )
    repeat_penalty: float = option(
        1.0, "Divide the logits of recent tokens; 1: off.", flags=("--repeat-penalty",), metavar="X", low=0, engine=True
    )
    frequency_penalty: float = option(
        0.0, "Take X off a token's logit for each recent occurrence.", flags=("--frequency-penalty",), metavar="X",
        engine=True,
    )  # fmt: skip
    presence_penalty: float = option(
        0.0, "Take X off the logits of recent tokens.", flags=("--presence-penalty",), metavar="X", engine=True
    )
    penalty_last_n: int = option(
        64, "Emitted tokens that penalties look back at.", low=0, http="repeat_last_n", engine=True
    )
    dry_multiplier: float = option(0.0, "DRY: strength of the penalty for repetitions; 0: off.", low=0, engine=True)
    dry_base: float = option(1.75, "DRY: what each further token of a repetition multiplies it by.", engine=True)
    dry_allowed_length: int = option(2, "DRY: longest repetition without a penalty.", engine=True)
    dry_penalty_last_n: int = option(-1, "DRY: tokens to look back at; -1: the context.", low=-1, engine=True)
    dry_sequence_breakers: Sequence[str] = option(
        ("\n", ":", '"', "*"), "DRY: texts at which a repetition ends.", private=True
    )
    logit_bias: Mapping[int | str, float] | None = option(
        None, "What to add to the logits of token ids (numbers, or strings of digits as in JSON).", private=True
    )
    grammar: str | Constraint = option(
        "", "GBNF with a rule `root` that the output follows, or llguidance's syntax behind %llguidance.",
        private=True,
    )  # fmt: skip
    sampler: str | None = option(
        None, "How drafts are accepted", flags=("--sampler",), metavar="NAME", choices=SAMPLERS,
        default_text=f"{REJECTION}; {COUPLED} in mode auto with a seed",
    )  # fmt: skip
    seed: int | None = option(
        None, "Seed of the random numbers; -1: a new one.", flags=("-s", "--seed"), metavar="N",
        bits=64, json_none=RANDOM_SEED, default_text="a new one",
    )  # fmt: skip
    _bias: dict[int, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        settle(self)
        if self.seed == RANDOM_SEED:
            object.__setattr__(self, "seed", None)
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
        """Arguments of the engine's `RequestOptions`. `repeatable`: drafts have the same block lengths every time.

        Raises ValueError for a biased token outside the vocabulary.
        """
        outside = [token for token in self._bias if not 0 <= token < n_vocab]
        if outside:
            raise ValueError(f"logit_bias: token id {outside[0]} is not in the vocabulary of {n_vocab}")
        seed = secrets.randbits(64) if self.seed is None else self.seed % 2**64
        return engine_values(self) | {
            "dry_sequence_breakers": list(self.dry_sequence_breakers),
            "logit_bias": self._bias,
            "coupled": (self.sampler or self._default_sampler(repeatable)) == COUPLED,
            "seed": seed,
        }

    def constraint(self, token_of: TokenOf) -> Constraint | None:
        """Return what an answer must be. `token_of`: the id of a special token by its name, or -1.

        Raises ValueError for a grammar that does not compile.
        """
        if isinstance(self.grammar, Constraint):
            return self.grammar
        return of_grammar(self.grammar, token_of) if self.grammar else None

    def _default_sampler(self, repeatable: bool) -> str:
        return REJECTION if repeatable or self.seed is None else COUPLED
