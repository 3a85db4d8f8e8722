"""llama.cpp's own sampler chain, through llama-cpp-python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from pytrimode.options.sampling import Sampling

MANY = 10_000
"""More tokens than a test has."""


@contextmanager
def stock_vocab(gguf: Path) -> Iterator[Any]:
    """llama.cpp's vocabulary of a file."""
    options = llama_cpp.llama_model_default_params()
    options.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(gguf).encode(), options)
    try:
        yield llama_cpp.llama_model_get_vocab(model)
    finally:
        llama_cpp.llama_model_free(model)


def stock_distribution(
    row: NDArray[np.float32], mask: int, history: Sequence[int], sampling: Sampling, vocab: Any = None
) -> NDArray[np.float64]:
    """Float64 [n_vocab]: what llama-cpp-python's chain leaves of a row of logits, the mask id taken out before.

    DRY needs the vocabulary.
    """
    n_vocab = len(row)
    tokens = [i for i in range(n_vocab) if i != mask]
    data = (llama_cpp.llama_token_data * len(tokens))(*((i, float(row[i]), 0.0) for i in tokens))
    array = llama_cpp.llama_token_data_array(data=data, size=len(tokens), selected=-1, sorted=False)
    bias = {int(token): value for token, value in (sampling.logit_bias or {}).items()}
    biases = (llama_cpp.llama_logit_bias * len(bias))(*bias.items())
    breakers = [breaker.encode() for breaker in sampling.dry_sequence_breakers]
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    try:
        for sampler in (
            llama_cpp.llama_sampler_init_logit_bias(n_vocab, len(bias), biases),
            llama_cpp.llama_sampler_init_penalties(
                n_vocab, sampling.penalty_last_n, sampling.repeat_penalty, sampling.frequency_penalty,
                sampling.presence_penalty,
            ),
            llama_cpp.llama_sampler_init_dry(
                vocab, sampling.dry_multiplier if vocab else 0.0, sampling.dry_base, sampling.dry_allowed_length,
                MANY if sampling.dry_penalty_last_n < 0 else sampling.dry_penalty_last_n,
                (ctypes.c_char_p * len(breakers))(*breakers), len(breakers) if vocab else 0,
            ),
            llama_cpp.llama_sampler_init_top_k(sampling.top_k),
            llama_cpp.llama_sampler_init_typical(sampling.typical_p, 1),
            llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1),
            llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1),
            llama_cpp.llama_sampler_init_temp(sampling.temperature),
        ):  # fmt: skip
            llama_cpp.llama_sampler_chain_add(chain, sampler)
        for token in history:
            llama_cpp.llama_sampler_accept(chain, token)
        llama_cpp.llama_sampler_apply(chain, ctypes.byref(array))
    finally:
        llama_cpp.llama_sampler_free(chain)
    left = [array.data[i] for i in range(array.size)]
    logits = np.array([candidate.logit for candidate in left], np.float64)
    weights = np.exp(logits - logits.max())
    out = np.zeros(n_vocab)
    out[[candidate.id for candidate in left]] = weights / weights.sum()
    return out


class StockGrammar:
    """llama.cpp's grammar, asked about every token by itself."""

    def __init__(self, vocab: Any, grammar: str) -> None:
        self._n_vocab = llama_cpp.llama_vocab_n_tokens(vocab)
        self._sampler = llama_cpp.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")

    def close(self) -> None:
        llama_cpp.llama_sampler_free(self._sampler)

    def allowed(self) -> set[int]:
        """The tokens that may come next."""
        data = (llama_cpp.llama_token_data * self._n_vocab)(*((i, 0.0, 0.0) for i in range(self._n_vocab)))
        array = llama_cpp.llama_token_data_array(data=data, size=self._n_vocab, selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(self._sampler, ctypes.byref(array))
        return {candidate.id for candidate in data if candidate.logit == 0.0}

    def mask(self) -> Callable[[], None]:
        """What looks at the whole vocabulary and nothing else, to be timed."""
        data = (llama_cpp.llama_token_data * self._n_vocab)(*((i, 0.0, 0.0) for i in range(self._n_vocab)))
        array = llama_cpp.llama_token_data_array(data=data, size=self._n_vocab, selected=-1, sorted=False)
        return lambda: llama_cpp.llama_sampler_apply(self._sampler, ctypes.byref(array))

    def accept(self, token: int) -> None:
        llama_cpp.llama_sampler_accept(self._sampler, token)
