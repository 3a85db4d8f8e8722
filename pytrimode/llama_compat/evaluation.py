"""Tokens and evaluation: what `llama_cpp.Llama` does below completions."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytrimode.llama_compat.grammar import LlamaGrammar, grammar_text
from pytrimode.llama_compat.loading import seed_of
from pytrimode.llama_compat.missing import Missing, missing
from pytrimode.llama_compat.refusals import SAMPLING, refuse, refuse_processors
from pytrimode.llama_compat.state import LlamaState
from pytrimode.llama_compat.stopping import Criterion, Stopper
from pytrimode.llama_compat.tokenizer import LlamaTokenizer
from pytrimode.options.modes import AR
from pytrimode.trimode import TriMode


class Evaluation(Missing):
    """A model, the tokens that it was given last, and what follows them."""

    def __init__(
        self, model: TriMode, *, mode: str, seed: int | None, last_n_tokens_size: int, logits_all: bool
    ) -> None:
        self.trimode = model
        """The model as pytrimode's own class."""
        self.model_path = model.model_path
        self.metadata = model.metadata
        self.n_threads, self.n_threads_batch = model.n_threads, model.n_threads_batch
        self.last_n_tokens_size = last_n_tokens_size
        self._seed = seed_of(seed)
        self._mode = mode
        self._logits_all = logits_all
        self._tokens: list[int] = []

    # --- The model -------------------------------------------------------------------------------------------------

    def n_ctx(self) -> int:
        """Return how many tokens prompt and completion may have together."""
        return self.trimode.n_ctx

    def n_vocab(self) -> int:
        """Return the number of tokens in the vocabulary."""
        return self.trimode.n_vocab

    def n_embd(self) -> int:
        """Return the width of the model."""
        return self.trimode.n_embd

    def token_bos(self) -> int:
        """Return the id of the token that begins a text."""
        return self.trimode.bos_token_id

    def token_eos(self) -> int:
        """Return the id of the token that ends an answer."""
        return self.trimode.eos_token_id

    def token_nl(self) -> int:
        """Return the id of the line feed."""
        return self.trimode.tokenize(b"\n", add_bos=False)[0]

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        """Return the token ids of a text. `special`: special tokens spelled out in the text become their ids."""
        return self.trimode.tokenize(text, add_bos, special)

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """Return the bytes of tokens, special ones only if asked for; `prev_tokens` changes nothing.

        Raises ValueError for an id outside the vocabulary.
        """
        text = self.trimode.detokenize(tokens, special)
        return text.removeprefix(b" ") if len(tokens) and tokens[0] == self.token_bos() else text

    def tokenizer(self) -> LlamaTokenizer:
        """Return the model's tokenizer as an object of its own."""
        return LlamaTokenizer(self)

    def set_seed(self, seed: int | None) -> None:
        """Set the seed from which those of later requests follow; -1 and None: a new one for each."""
        self._seed = seed_of(seed)

    def _next_seed(self) -> int | None:
        """Return the seed of the next request that names none: another one each time, but the same in each program."""
        if self._seed is not None:
            self._seed = random.Random(self._seed).getrandbits(32)
        return self._seed

    def _seed_for(self, seed: int | None) -> int | None:
        """Return the seed of a request; one that is named is where those of later requests go on from."""
        if seed is None:
            return self._next_seed()
        self.set_seed(seed)
        return self._seed

    def close(self) -> None:
        """Free the cache and the compute buffers."""
        self.trimode.close()

    # --- Evaluation ------------------------------------------------------------------------------------------------

    @property
    def n_tokens(self) -> int:
        """Number of tokens that the last `eval`s or the last prompt had."""
        return len(self._tokens)

    @property
    def input_ids(self) -> NDArray[np.intc]:
        """These tokens as an array, int32 [n_tokens]."""
        return np.array(self._tokens, np.intc)

    @property
    def eval_tokens(self) -> deque[int]:
        """The tokens that the last `eval`s or the last prompt had."""
        return deque(self._tokens, maxlen=self.n_ctx())

    @property
    def eval_logits(self) -> deque[list[float]]:
        """Logits after the last of these tokens, with `logits_all` after each; computed at each call."""
        first = 0 if self._logits_all else max(0, self.n_tokens - 1)
        rows = self.trimode.logits(self._tokens, first=first).tolist() if self._tokens else []
        return deque(rows, maxlen=self.n_ctx())

    def reset(self) -> None:
        """Forget the tokens that were evaluated."""
        self._tokens = []

    def eval(self, tokens: Sequence[int]) -> None:
        """Add tokens to those that `sample` continues; they are computed when it asks.

        Raises ValueError for more than the context holds.
        """
        if self.n_tokens + len(tokens) > self.n_ctx():
            raise ValueError(
                f"Requested tokens ({self.n_tokens + len(tokens)}) exceed context window of {self.n_ctx()}"
            )
        self._tokens += [int(token) for token in tokens]

    def sample(
        self,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_eta: float = 0.1,
        mirostat_tau: float = 5.0,
        penalize_nl: bool = True,
        logits_processor: Any = None,
        grammar: LlamaGrammar | None = None,
        idx: int | None = None,
    ) -> int:
        """Draw the token that follows those evaluated.

        Raises NotImplementedError for what has to know the tokens drawn before: penalties and grammars.
        """
        if repeat_penalty != 1 or frequency_penalty or presence_penalty or grammar is not None or idx is not None:
            raise missing("sample with penalties, grammar or idx", "use generate or create_completion")
        refuse(SAMPLING, {"tfs_z": tfs_z, "mirostat_mode": mirostat_mode})
        refuse_processors(logits_processor)
        drawn = self.trimode.generate(
            self._tokens, mode=AR, max_tokens=1, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p,
            temperature=temp, seed=self._next_seed(),
        )  # fmt: skip
        return next(iter(drawn))

    def generate(
        self,
        tokens: Sequence[int],
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        reset: bool = True,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        penalize_nl: bool = True,
        logits_processor: Any = None,
        stopping_criteria: Criterion | None = None,
        grammar: LlamaGrammar | None = None,
        **options: Any,
    ) -> Generator[int, Any, None]:
        """Yield token ids as they become final; the token that ends an answer is the last one.

        `reset=False` continues the tokens evaluated before. `options`: further ones of `TriMode.generate`.
        """
        refuse(SAMPLING, {"tfs_z": tfs_z, "mirostat_mode": mirostat_mode, "penalize_nl": penalize_nl})
        refuse_processors(logits_processor)
        if reset:
            self.reset()
        self.eval(tokens)
        prompt = self._tokens.copy()
        asked: dict[str, Any] = {"mode": self._mode, "penalty_last_n": self.last_n_tokens_size, **options}
        drawn = self.trimode.generate(
            prompt, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p, temperature=temp,
            repeat_penalty=repeat_penalty, frequency_penalty=frequency_penalty, presence_penalty=presence_penalty,
            grammar=grammar_text(grammar), **{"seed": self._next_seed(), **asked},
        )  # fmt: skip
        return self._until(drawn, Stopper(self.trimode, prompt, stopping_criteria) if stopping_criteria else None)

    def _until(self, drawn: Iterator[int], stopper: Stopper | None) -> Generator[int, Any, None]:
        for token in drawn:
            if stopper and not stopper.accepts(token):
                return
            self._tokens.append(token)
            if (yield token) is not None:
                raise missing("generate", "a generator that takes tokens by send(): use eval and sample")

    def save_state(self) -> LlamaState:
        """Return the tokens of `eval_tokens`, the keys and values that the cache has of them, and the seed."""
        return LlamaState(tuple(self._tokens), self.trimode.save_state(self._tokens), self._seed)

    def load_state(self, state: LlamaState) -> None:
        """Put a saved state back: what begins with its tokens is not computed again. Raises as `TriMode.load_state`."""
        self.trimode.load_state(state.cache)
        self._tokens, self._seed = list(state.tokens), state.seed

    @staticmethod
    def logits_to_logprobs(logits: Any, axis: int = -1) -> NDArray[np.single]:
        """Return natural logarithms of the softmax along an axis, float32 in the shape of `logits`."""
        rows = np.asarray(logits, np.single)
        below = rows - np.nan_to_num(rows.max(axis=axis, keepdims=True), neginf=0, posinf=0)
        return np.asarray(below - np.log(np.exp(below).sum(axis=axis, keepdims=True)), np.single)

    @staticmethod
    def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
        """Count the tokens that two sequences have in common at their beginning."""
        n = 0
        while n < min(len(a), len(b)) and a[n] == b[n]:
            n += 1
        return n
