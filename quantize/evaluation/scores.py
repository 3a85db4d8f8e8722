"""From logits to figures: perplexity, KL divergence, how often the likeliest token is the same.

Sources: llama.cpp `tools/perplexity/perplexity.cpp` (perplexity and its error, divergences over saved logits).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypedDict

import numpy as np
from numpy.typing import NDArray

CODES = 65535
ROWS_AT_A_TIME = 16
"""Keeps the arrays of a comparison small: 8 MiB each with a vocabulary of 131,072."""

_HEAD = struct.Struct("<II")


@dataclass(frozen=True)
class LogProbs:
    """Log-probabilities of rows in 16 bits each: `low` + `step` * code, evenly over the range of the row.

    A range of 30 makes steps of 0.0005. Both sides of a comparison are rounded like this, so that equal logits have a
    divergence of 0.

    Attributes:
        low: float32 [n].
        step: float32 [n].
        codes: uint16 [n, n_vocab].
    """

    low: NDArray[np.float32]
    step: NDArray[np.float32]
    codes: NDArray[np.uint16]

    BYTES: ClassVar = 2
    """Of each."""

    @classmethod
    def of(cls, logits: NDArray[np.float32]) -> LogProbs:
        """Of logits [n, n_vocab]. Raises RuntimeError where some are no numbers."""
        high = logits.max(axis=1, keepdims=True)
        low = logits.min(axis=1, keepdims=True)
        if not (np.isfinite(high).all() and np.isfinite(low).all()):
            raise RuntimeError("some logits are not finite numbers: the file is damaged, or its type too coarse")
        step = (high - low) / np.float32(CODES)
        codes = np.rint((logits - low) / np.where(step > 0, step, 1)).astype(np.uint16)
        return cls(low[:, 0] - _log_sum_exp(logits, high[:, 0]), step[:, 0], codes)

    def values(self) -> NDArray[np.float32]:
        """float32 [n, n_vocab], normalized."""
        values: NDArray[np.float32] = self.codes * self.step[:, None] + self.low[:, None]
        normalized: NDArray[np.float32] = values - _log_sum_exp(values, values.max(axis=1))[:, None]
        return normalized

    def __getitem__(self, rows: slice) -> LogProbs:
        return LogProbs(self.low[rows], self.step[rows], self.codes[rows])

    def to_bytes(self) -> bytes:
        """For a file."""
        return _HEAD.pack(*self.codes.shape) + self.low.tobytes() + self.step.tobytes() + self.codes.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> LogProbs:
        """Return what `to_bytes` gave."""
        n, n_vocab = _HEAD.unpack_from(data)
        floats = np.frombuffer(data, np.float32, 2 * n, _HEAD.size)
        codes = np.frombuffer(data, np.uint16, n * n_vocab, _HEAD.size + floats.nbytes)
        return cls(floats[:n], floats[n:], codes.reshape(n, n_vocab))


def _log_sum_exp(x: NDArray[np.float32], highest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each row."""
    total = np.exp(x - highest[:, None]).sum(axis=1, dtype=np.float64)
    found: NDArray[np.float32] = (highest + np.log(total)).astype(np.float32)
    return found


@dataclass(frozen=True)
class Scores:
    """Of rows.

    Attributes:
        nll: negative log-likelihood of the text's tokens, float64 [n].
        kld: KL divergence from the base's distribution, float64 [n]; nan where nothing is compared.
        same: whether the likeliest token is the base's, bool [n].
    """

    nll: NDArray[np.float64]
    kld: NDArray[np.float64]
    same: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """One after the other."""
        return cls(
            np.concatenate([part.nll for part in parts]),
            np.concatenate([part.kld for part in parts]),
            np.concatenate([part.same for part in parts]),
        )


def score(logits: NDArray[np.float32], targets: Sequence[int], base: LogProbs | None) -> tuple[Scores, LogProbs]:
    """Scores of rows of logits [n, n_vocab], against the base's where given, and their log-probabilities."""
    parts, packed = [], []
    for begin in range(0, len(logits), ROWS_AT_A_TIME):
        rows = slice(begin, begin + ROWS_AT_A_TIME)
        packed.append(LogProbs.of(logits[rows]))
        nll = negative_log_likelihood(logits[rows], targets[rows])
        if base is None:
            n = len(nll)
            parts.append(Scores(nll, np.full(n, np.nan), np.ones(n, bool)))
        else:
            parts.append(Scores(nll, *_compare(base[rows], packed[-1])))
    whole = LogProbs(
        np.concatenate([part.low for part in packed]),
        np.concatenate([part.step for part in packed]),
        np.concatenate([part.codes for part in packed]),
    )
    return Scores.joined(parts), whole


def negative_log_likelihood(logits: NDArray[np.float32], targets: Sequence[int]) -> NDArray[np.float64]:
    """Of one token in each row, float64 [n]."""
    x = logits.astype(np.float64)
    highest = x.max(axis=1)
    total = np.exp(x - highest[:, None]).sum(axis=1)
    nll: NDArray[np.float64] = np.log(total) + highest - x[np.arange(len(x)), list(targets)]
    return nll


def _compare(base: LogProbs, other: LogProbs) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    p, q = base.values(), other.values()
    kld = (np.exp(p) * (p - q)).sum(axis=1, dtype=np.float64)
    return kld, base.codes.argmax(axis=1) == other.codes.argmax(axis=1)


def without_token(
    logits: NDArray[np.float32], targets: Sequence[int], token: int
) -> tuple[NDArray[np.float32], list[int]]:
    """Rows without one token, the mask: the last column takes its place. Overwrites `logits`."""
    last = logits.shape[1] - 1
    logits[:, token] = logits[:, last]
    return logits[:, :last], [token if target == last else target for target in targets]


class RowFigures(TypedDict):
    """What rows of one kind say; divergences are None for the base itself."""

    rows: int
    perplexity: float
    perplexity_error: float | None
    kld: float | None
    kld_error: float | None
    kld_99: float | None
    kld_max: float | None
    same_top: float | None


def figures(scores: Scores) -> RowFigures:
    """Means with their standard errors, and quantiles."""
    perplexity, error = perplexity_of(scores.nll)
    compared = not np.isnan(scores.kld).any()
    return {
        "rows": len(scores.nll),
        "perplexity": perplexity,
        "perplexity_error": error,
        "kld": float(scores.kld.mean()) if compared else None,
        "kld_error": _standard_error(scores.kld) if compared else None,
        "kld_99": float(np.quantile(scores.kld, 0.99)) if compared else None,
        "kld_max": float(scores.kld.max()) if compared else None,
        "same_top": float(scores.same.mean()) if compared else None,
    }


def perplexity_of(nll: NDArray[np.float64]) -> tuple[float, float | None]:
    """exp of the mean, and its standard error: that of the mean, times the perplexity."""
    perplexity, error = float(np.exp(nll.mean())), _standard_error(nll)
    return perplexity, None if error is None else error * perplexity


def _standard_error(values: NDArray[np.float64]) -> float | None:
    """Of the mean, of independent values; None of a single one."""
    if len(values) < 2:
        return None
    return float(values.std() / np.sqrt(len(values) - 1))
