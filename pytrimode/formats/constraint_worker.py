"""A process that compiles grammars for the first time: what takes it too long, or too much memory, ends it alone.

Run as a script, it imports nothing of this package. Each request is a line of JSON, a grammar in llguidance's Lark
syntax; each answer is one, what is wrong with it, or null.
"""

import json
import resource
import signal
import sys
import threading
from typing import Any

CPU_SECONDS = 1.0
"""For one grammar; a JSON schema of 200 properties takes 0.01."""
MEMORY_BYTES = 1 << 30
"""Address space beyond that of the start."""
STACK_BYTES = 2 << 20
"""Less than threads have by default: what is checked here goes through there."""


class _Bytes:
    """A vocabulary of the 256 bytes."""

    def __init__(self) -> None:
        self.tokens = [bytes([i]) for i in range(256)] + [b"\xff</s>"]
        self.eos_token_id = 256
        self.bos_token_id = None
        self.special_token_ids = [256]

    def __call__(self, text: Any) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def _address_space() -> int:
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - nothing more is imported than must be
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _serve() -> None:
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

    tokenizer = LLTokenizer(TokenizerWrapper(_Bytes()))
    used = _address_space()
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # its signal ends the process
        matcher = LLMatcher(tokenizer, json.loads(line), log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()
        problem = matcher.get_error() if matcher.is_error() else None
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(problem), flush=True)


if __name__ == "__main__":
    sys.path.append(sys.argv[1])
    threading.stack_size(STACK_BYTES)
    worker = threading.Thread(target=_serve, daemon=True)
    worker.start()
    worker.join()
