"""Methods of `llama_cpp.Llama` that have no counterpart: each says what to use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn


def missing(name: str, advice: str) -> NotImplementedError:
    """Make the error of a method that pytrimode has no counterpart of."""
    return NotImplementedError(f"Llama.{name}: pytrimode does not have it, {advice}")


class Missing:
    """What `Llama` has by name only."""

    @property
    def scores(self) -> NoReturn:
        """Raise NotImplementedError."""
        raise missing("scores", "use eval_logits or trimode.logits(tokens)")

    @property
    def ctx(self) -> NoReturn:
        """Raise NotImplementedError."""
        raise missing("ctx", "use the methods of trimode")

    @property
    def model(self) -> NoReturn:
        """Raise NotImplementedError."""
        raise missing("model", "use the methods of trimode")

    def set_cache(self, cache: Any) -> None:
        """Raise NotImplementedError for a cache other than None: prompts are cached anyway."""
        if cache is not None:
            raise missing("set_cache", "prompts with the same beginning share the cache anyway; leave it out")

    def create_embedding(self, input: str | Sequence[str], model: str | None = None) -> NoReturn:
        """Raise NotImplementedError."""
        raise missing("create_embedding", "use an embedding model with llama_cpp")

    def embed(self, input: str | Sequence[str], *args: Any, **kwargs: Any) -> NoReturn:
        """Raise NotImplementedError."""
        raise missing("embed", "use an embedding model with llama_cpp")

    def pooling_type(self) -> NoReturn:
        """Raise NotImplementedError."""
        raise missing("pooling_type", "there are no embeddings")
