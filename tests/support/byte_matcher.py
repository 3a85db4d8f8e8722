"""Whether a text is of a grammar: llguidance's matcher over a vocabulary of bytes."""

from __future__ import annotations

from functools import cache
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from pytrimode.formats.constraint import Constraint

END = 256


class _Bytes:
    def __init__(self) -> None:
        self.tokens = [bytes([i]) for i in range(256)] + [b"\xff</s>"]
        self.eos_token_id = END
        self.bos_token_id = None
        self.special_token_ids = [END]

    def __call__(self, text: Any) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@cache
def _tokenizer() -> Any:
    return LLTokenizer(TokenizerWrapper(_Bytes()))  # type: ignore[arg-type]


class ByteMatcher:
    """Asked about texts, one after the other."""

    def __init__(self, constraint: Constraint) -> None:
        self._matcher = LLMatcher(_tokenizer(), constraint.lark, log_level=0)
        assert not self._matcher.is_error(), self._matcher.get_error()

    def accepts(self, text: str) -> bool:
        """Whether it is a whole text of the grammar."""
        matcher = self._matcher.deep_copy()
        data = list(text.encode())
        return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()
