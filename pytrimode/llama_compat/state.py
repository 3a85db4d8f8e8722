"""`LlamaState`: what `save_state` gives and `load_state` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytrimode.files.cache_state import CacheState


@dataclass(frozen=True)
class LlamaState:
    """The tokens that were evaluated last, their keys and values, and the seed of what comes next."""

    tokens: tuple[int, ...]
    """What `eval` would have to be given."""
    cache: CacheState
    """Keys and values of the longest beginning of these that the cache held."""
    seed: int | None
    """None: a new one for each request."""

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return len(self.tokens)
