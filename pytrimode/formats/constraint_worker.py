"""Compiles grammars for the first time, in a process that may end of it; see `worker_loop`."""

from collections.abc import Callable
from typing import Any


class _Bytes:
    """A vocabulary of the 256 bytes."""

    def __init__(self) -> None:
        self.tokens = [bytes([i]) for i in range(256)] + [b"\xff</s>"]
        self.eos_token_id = 256
        self.bos_token_id = None
        self.special_token_ids = [256]

    def __call__(self, text: Any) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def start() -> Callable[[str], str | None]:
    """Return what tells what is wrong with a grammar in llguidance's Lark syntax; None: nothing."""
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

    tokenizer = LLTokenizer(TokenizerWrapper(_Bytes()))

    def problem(lark: str) -> str | None:
        matcher = LLMatcher(tokenizer, lark, log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()
        return matcher.get_error() if matcher.is_error() else None

    return problem
