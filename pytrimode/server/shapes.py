"""How answers are written: the objects of completions and of chat completions, whole and in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from pytrimode.results import Ending, ResultWriter

Object = dict[str, Any]
"""A JSON object on its way out."""


class Shape(ABC):
    """How answers are written: as completions or as chat completions."""

    def __init__(self, model: str) -> None:
        self._writer = ResultWriter(model)

    @abstractmethod
    def opening(self, echo: str) -> list[Object]:
        """Chunks before the first text."""

    @abstractmethod
    def text(self, text: str) -> Object:
        """A chunk with text."""

    @abstractmethod
    def ending(self, ending: Ending) -> Object:
        """The chunk that ends an answer."""

    @abstractmethod
    def whole(self, text: str, ending: Ending) -> Object:
        """An answer in one piece."""


class CompletionShape(Shape):
    """Of `/v1/completions`."""

    def opening(self, echo: str) -> list[Object]:
        """The prompt, if it is to be echoed."""
        return [self.text(echo)] if echo else []

    def text(self, text: str) -> Object:
        """See Shape."""
        return dict(self._writer.completion(text))

    def ending(self, ending: Ending) -> Object:
        """See Shape."""
        return dict(self._writer.completion("", ending))

    def whole(self, text: str, ending: Ending) -> Object:
        """See Shape."""
        return dict(self._writer.completion(text, ending))


class ChatShape(Shape):
    """Of `/v1/chat/completions`."""

    def opening(self, echo: str) -> list[Object]:
        """The role."""
        return [dict(self._writer.chat_chunk({"role": "assistant", "content": ""}))]

    def text(self, text: str) -> Object:
        """See Shape."""
        return dict(self._writer.chat_chunk({"content": text}))

    def ending(self, ending: Ending) -> Object:
        """See Shape."""
        return dict(self._writer.chat_chunk({}, ending))

    def whole(self, text: str, ending: Ending) -> Object:
        """See Shape."""
        return dict(self._writer.chat({"role": "assistant", "content": text}, ending))


UNFINISHED = Ending({"type": "stop"}, {})
"""Of answers that have not ended, and of the envelope of the last chunk."""
