"""What one setting did with some prompts, and sums of that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pytrimode._native import Stats
from pytrimode.answers.results import ratio


@dataclass
class Sample:
    """Counters; they add up.

    The first token of a request comes from its prompt: neither it nor the prompt's time counts, but with several
    requests at a time `seconds` is the time until all have ended, prompts included.
    """

    requests: int = 0
    tokens: int = 0
    seconds: float = 0.0
    passes: int = 0
    pass_seconds: float = 0.0
    compute_seconds: float = 0.0
    """Of `pass_seconds`, in the graphs."""
    prompt_tokens: int = 0
    """Computed, not found in the cache."""
    prompt_seconds: float = 0.0
    cycles: int = 0
    drafted: int = 0
    accepted: int = 0
    tried_at: list[int] = field(default_factory=list)
    """By draft position: cycles in which all drafts before it were accepted, ..."""
    accepted_at: list[int] = field(default_factory=list)
    """... and of these in which it was."""

    def add_request(self, stats: Stats) -> None:
        """Count a request that has ended; its `seconds` are the caller's business."""
        self.requests += 1
        self.tokens += max(stats.completion_tokens - 1, 0)
        self.passes += stats.forward_passes
        self.pass_seconds += stats.generation_seconds
        self.compute_seconds += stats.compute_seconds
        self.prompt_tokens += stats.prompt_tokens - stats.cached_tokens
        self.prompt_seconds += stats.prompt_seconds
        self.cycles += stats.cycles
        self.drafted += stats.drafted
        self.accepted += stats.accepted

    def add_cycle(self, drafted: int, accepted: int) -> None:
        """One draft and how much of it was accepted."""
        _lengthen(self.tried_at, drafted)
        _lengthen(self.accepted_at, drafted)
        for i in range(min(drafted, accepted + 1)):
            self.tried_at[i] += 1
            self.accepted_at[i] += i < accepted

    @property
    def tokens_per_second(self) -> float:
        """Of all requests together."""
        return ratio(self.tokens, self.seconds)

    @property
    def tokens_per_forward(self) -> float:
        """Per pass of a request."""
        return ratio(self.tokens, self.passes)

    @property
    def acceptance_length(self) -> float:
        """Tokens per cycle of draft and verify; 0 without drafts."""
        return 1.0 + self.accepted / self.cycles if self.drafted else 0.0

    @property
    def overhead(self) -> float:
        """Share of a pass outside the graph's computation."""
        return 1.0 - ratio(self.compute_seconds, self.pass_seconds) if self.pass_seconds else 0.0

    @property
    def acceptance_by_position(self) -> list[float]:
        """Conditional rates: of the cycles that reached a position, those in which its draft was accepted."""
        return [ratio(a, t) for a, t in zip(self.accepted_at, self.tried_at, strict=True)]


def total(samples: Iterable[Sample]) -> Sample:
    """Their sum."""
    result = Sample()
    for sample in samples:
        for name, value in vars(sample).items():
            if isinstance(value, list):
                mine = getattr(result, name)
                _lengthen(mine, len(value))
                for i, x in enumerate(value):
                    mine[i] += x
            else:
                setattr(result, name, getattr(result, name) + value)
    return result


def _lengthen(values: list[int], length: int) -> None:
    values.extend([0] * (length - len(values)))
