"""Sampling in numpy, written out once more: truncation, noise, acceptance rules, self-speculation step by step.

Distributions are float64 [n_vocab]. Streams of noise and the order of draws are those of `native/sampling/`, so that
the engine can be held against it token by token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytrimode import TriMode
from pytrimode.options.sampling import COUPLED, REJECTION, Sampling

Floats = NDArray[np.float64]
PROPOSAL_CANDIDATES = 64
"""Highest logits of a draft row that a proposal is made of."""


# --- Distributions ---------------------------------------------------------------------------------------------------


def softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def ranked(values: Floats, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ids by falling value, the lowest id first among equals."""
    return ids[np.lexsort((ids, -values[ids]))]


def truncated(logits: Floats, sampling: Sampling, candidates: NDArray[np.int64] | None = None) -> Floats:
    """Top-k, typical, top-p, min-p and temperature over logits (-inf: excluded) or over some candidates among them."""
    kept = ranked(logits, np.flatnonzero(np.isfinite(logits)) if candidates is None else candidates)
    out = np.zeros(len(logits))
    if sampling.temperature == 0:
        out[kept[0]] = 1.0
        return out
    if sampling.top_k > 0:
        kept = kept[: sampling.top_k]
    if sampling.typical_p < 1:
        p = softmax(logits[kept])
        surprise = -np.log(p)
        order = np.argsort(np.abs(surprise - (p * surprise).sum()), kind="stable")
        n = int(np.searchsorted(np.cumsum(p[order]), sampling.typical_p, side="right")) + 1
        kept = ranked(logits, kept[order[:n]])
    if sampling.top_p < 1:
        kept = kept[: int(np.searchsorted(np.cumsum(softmax(logits[kept])), sampling.top_p)) + 1]
    if sampling.min_p > 0:
        kept = kept[logits[kept] >= logits[kept].max() + np.log(sampling.min_p)]
    out[kept] = softmax(logits[kept] / sampling.temperature)
    return out


def with_history(row: NDArray[np.float32], mask: int, history: Sequence[int], sampling: Sampling) -> Floats:
    """A row of logits without the mask id, after logit bias and the penalties of the tokens emitted so far."""
    logits = row.astype(np.float64)
    for token, bias in (sampling.logit_bias or {}).items():
        logits[int(token)] += bias
    recent = history[-sampling.penalty_last_n :] if sampling.penalty_last_n else []
    for token, n in Counter(recent).items():
        up = logits[token] > 0
        logits[token] = logits[token] / sampling.repeat_penalty if up else logits[token] * sampling.repeat_penalty
        logits[token] -= n * sampling.frequency_penalty + sampling.presence_penalty
    logits[mask] = -np.inf
    return logits


def proposal(row: NDArray[np.float32], mask: int, sampling: Sampling) -> Floats:
    """What a draft row proposes: the same truncation over its highest logits, without bias and penalties."""
    logits = row.astype(np.float64)
    logits[mask] = -np.inf
    n = min(sampling.top_k, PROPOSAL_CANDIDATES) if sampling.top_k > 0 else PROPOSAL_CANDIDATES
    return truncated(logits, sampling, ranked(logits, np.flatnonzero(np.isfinite(logits)))[:n])


def residual(p: Floats, q: Floats) -> Floats:
    """Normalized max(0, p - q); p itself where nothing is left."""
    rest = np.maximum(p - q, 0)
    return rest / rest.sum() if rest.sum() > 0 else p


# --- Noise -----------------------------------------------------------------------------------------------------------


class Stream(IntEnum):
    """What a number is drawn for."""

    TARGET, DRAFT, ACCEPT, RESIDUAL, GUMBEL = range(5)


def philox(counter: Sequence[NDArray[np.uint64]], key: tuple[int, int]) -> list[NDArray[np.uint64]]:
    """Philox 4x32-10 of Salmon et al. 2011 for arrays of counters: four words each."""
    low = np.uint64(0xFFFFFFFF)
    c = [np.asarray(word, np.uint64) for word in counter]
    k0, k1 = key
    for _ in range(10):
        first, second = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        high = np.uint64(32)
        c = [(second >> high) ^ c[1] ^ np.uint64(k0), second & low, (first >> high) ^ c[3] ^ np.uint64(k1), first & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def centred(upper: NDArray[np.uint64], lower: NDArray[np.uint64]) -> Floats:
    """32 and 20 bits as a number in (0, 1)."""
    bits = (upper << np.uint64(20)) | (lower >> np.uint64(12))
    return (bits.astype(np.float64) + 0.5) * 2.0**-52


class AnyNoise(Protocol):
    """Random numbers by position of the token that they are for."""

    def uniform(self, position: int, stream: Stream, number: int = 0) -> float:
        """In (0, 1); `number`: of the draft within its request."""
        ...

    def gumbel(self, position: int) -> Floats:
        """Standard Gumbel noise of every token."""
        ...


@dataclass(frozen=True)
class Noise:
    """The engine's: a function of seed and position."""

    seed: int
    n_vocab: int

    def _words(self, position: int, stream: Stream, index: NDArray[np.int64], last: int = 0) -> NDArray[np.uint64]:
        """uint64 [4, len(index)]: the words of these counters."""
        words = [np.full(index.shape, position), np.full(index.shape, int(stream)), index, np.full(index.shape, last)]
        key = self.seed & 0xFFFFFFFF, self.seed >> 32
        return np.stack(philox([word.astype(np.uint64) for word in words], key))

    def uniform(self, position: int, stream: Stream, number: int = 0) -> float:
        words = self._words(position, stream, np.full(1, number))
        return float(centred(words[0], words[1])[0])

    def gumbel(self, position: int) -> Floats:
        """64 tokens share 16 counters for their upper bits; the lower ones have counters of their own."""
        token = np.arange(self.n_vocab)
        upper = self._words(position, Stream.GUMBEL, token // 64 * 16 + token % 16)[token // 16 % 4, token]
        lower = self._words(position, Stream.GUMBEL, token, last=1)[0]
        return -np.log(-np.log(centred(upper, lower)))


@dataclass
class FreshNoise:
    """From numpy's generator, for one run: quicker, where the engine's own numbers are not wanted."""

    rng: np.random.Generator
    n_vocab: int
    _gumbel: dict[int, Floats] = field(default_factory=dict)

    def uniform(self, position: int, stream: Stream, number: int = 0) -> float:
        return float(self.rng.random())

    def gumbel(self, position: int) -> Floats:
        if position not in self._gumbel:
            self._gumbel[position] = self.rng.gumbel(size=self.n_vocab)
        return self._gumbel[position]


def draw(p: Floats, u: float) -> int:
    """The token at which the sum of probabilities, by rising id, passes u."""
    sums = np.cumsum(p)
    return int(np.searchsorted(sums, u * sums[-1], side="right"))


def draw_gumbel(p: Floats, noise: AnyNoise, position: int) -> int:
    """argmax of ln p + noise."""
    with np.errstate(divide="ignore"):
        return int(np.argmax(np.log(p) + noise.gumbel(position)))


# --- Acceptance rules: (p, q, draft, noise, position) -> (accepted, token) -------------------------------------------

Rule = Callable[[Floats, Floats, int, AnyNoise, int], tuple[bool, int]]


def rejection(p: Floats, q: Floats, draft: int, noise: AnyNoise, position: int) -> tuple[bool, int]:
    """Accept with probability min(1, p/q), else draw from the residual (Leviathan et al., Chen et al. 2023)."""
    if noise.uniform(position, Stream.ACCEPT) * q[draft] < p[draft]:
        return True, draft
    return False, draw(residual(p, q), noise.uniform(position, Stream.RESIDUAL))


def coupled(p: Floats, q: Floats, draft: int, noise: AnyNoise, position: int) -> tuple[bool, int]:
    """Target and draft are argmaxes under the same Gumbel noise (Daliri, Musco and Suresh 2024)."""
    token = draw_gumbel(p, noise, position)
    return token == draft, token


def compare(p: Floats, q: Floats, draft: int, noise: AnyNoise, position: int) -> tuple[bool, int]:
    """Draw from the target independently of the draft, and accept when they are equal."""
    token = draw(p, noise.uniform(position, Stream.TARGET))
    return token == draft, token


def match_greedily(p: Floats, q: Floats, draft: int, noise: AnyNoise, position: int) -> tuple[bool, int]:
    """Wrong with a temperature: the rule of greedy decoding."""
    token = int(p.argmax())
    return token == draft, token


def forget_the_residual(p: Floats, q: Floats, draft: int, noise: AnyNoise, position: int) -> tuple[bool, int]:
    """Wrong: min(1, p/q), but what replaces a rejected draft comes from p."""
    accepted, _ = rejection(p, q, draft, noise, position)
    return accepted, draft if accepted else draw(p, noise.uniform(position, Stream.RESIDUAL))


RULES: dict[str, Rule] = {REJECTION: rejection, COUPLED: coupled, "sample and compare": compare}
WRONG_RULES: dict[str, Rule] = {"greedy matching": match_greedily, "no residual": forget_the_residual}


def expected_acceptance(rule: str, p: Floats, q: Floats) -> float:
    """Probability that a draft from q is accepted, in closed form."""
    if rule == REJECTION:
        return float(np.minimum(p, q).sum())
    if rule == COUPLED:
        both = np.flatnonzero((p > 0) & (q > 0))
        support = np.flatnonzero((p > 0) | (q > 0))
        return float(sum(1 / np.maximum(p[support] / p[x], q[support] / q[x]).sum() for x in both))
    return float((p * q).sum())


# --- Self-speculation ------------------------------------------------------------------------------------------------


@dataclass
class Distributions:
    """What target and draft say behind one prompt, from the model's own logits; each context is computed once."""

    model: TriMode
    prompt: Sequence[int]
    sampling: Sampling
    use_lora: bool = True
    _targets: dict[tuple[int, ...], Floats] = field(default_factory=dict)
    _proposals: dict[tuple[tuple[int, ...], int], list[Floats]] = field(default_factory=dict)

    def target(self, emitted: tuple[int, ...]) -> Floats:
        """Distribution of the token behind prompt and emitted tokens."""
        if emitted not in self._targets:
            self.targets(emitted)
        return self._targets[emitted]

    def targets(self, emitted: tuple[int, ...]) -> list[Floats]:
        """Distributions behind the prompt and behind each emitted token, in one pass."""
        rows = self.model.logits([*self.prompt, *emitted])[len(self.prompt) - 1 :]
        for n, row in enumerate(rows):
            if emitted[:n] not in self._targets:
                logits = with_history(row, self.model.mask_token_id, emitted[:n], self.sampling)
                self._targets[emitted[:n]] = truncated(logits, self.sampling)
        return [self._targets[emitted[:n]] for n in range(len(emitted) + 1)]

    def proposals(self, emitted: tuple[int, ...], length: int) -> list[Floats]:
        """Distributions of the `length` - 1 drafts in a block that begins with the token emitted last."""
        if (emitted, length) not in self._proposals:
            mask, known = self.model.mask_token_id, [*self.prompt, *emitted[:-1]]
            block = [emitted[-1]] + [mask] * (length - 1)
            lora = self.use_lora and self.model.has_lora
            rows = self.model.logits([*known, *block], block_start=len(known), lora=lora)[len(known) + 1 :]
            self._proposals[emitted, length] = [proposal(row, mask, self.sampling) for row in rows]
        return self._proposals[emitted, length]


@dataclass
class Run:
    """What one simulated request emitted and cost."""

    tokens: list[int]
    drafted: int = 0
    accepted: int = 0
    cycles: int = 0
    passes: int = 0


def self_spec(
    of: Distributions, rule: Rule, noise: AnyNoise, *, max_tokens: int, block_length: int, ends: Iterable[int] = (),
    enough: int | None = None,
) -> Run:  # fmt: skip
    """Draft, verify, and again, as `native/decoders/self_spec.cpp` does, with any acceptance rule.

    `ends`: tokens that end the request. `enough`: leave when that many tokens have come.
    """
    begin = len(of.prompt)
    stop = frozenset(ends)

    def sample(p: Floats, position: int, stream: Stream, number: int = 0) -> int:
        return draw_gumbel(p, noise, position) if rule is coupled else draw(p, noise.uniform(position, stream, number))

    run = Run([sample(of.target(()), begin, Stream.TARGET)])
    while run.tokens[-1] not in stop and len(run.tokens) < min(max_tokens, enough or max_tokens):
        length = min(block_length, max_tokens - len(run.tokens))
        proposals = of.proposals(tuple(run.tokens), length) if length > 1 else []
        start, drafts = begin + len(run.tokens), []
        for i, q in enumerate(proposals):
            drafts.append(sample(q, start + i, Stream.DRAFT, run.cycles + 1))
            if drafts[-1] in stop:
                break
        run.passes += 2 if drafts else 1
        run.cycles += bool(drafts)
        run.drafted += len(drafts)
        for i, draft in enumerate(drafts):
            accepted, token = rule(of.target(tuple(run.tokens)), proposals[i], draft, noise, start + i)
            run.tokens.append(token)
            run.accepted += accepted
            if not accepted:
                break
        else:
            if run.tokens[-1] not in stop:
                run.tokens.append(sample(of.target(tuple(run.tokens)), start + len(drafts), Stream.TARGET))
    return run
