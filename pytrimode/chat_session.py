"""A conversation: its messages, and the next answer as a stream of steps."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING

from pytrimode.generation_options import GenerationOptions

if TYPE_CHECKING:
    from pytrimode.completion import Step
    from pytrimode.trimode import TriMode


class ChatSession:
    """Messages so far, with the model that answers them. The engine computes only what the last turn added."""

    def __init__(
        self, model: TriMode, *, system: str | None = None, options: GenerationOptions, enable_thinking: bool = False
    ) -> None:
        self.model = model
        self.options = options
        self.enable_thinking = enable_thinking
        self.system = system
        self.turns: list[dict[str, str]] = []

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation, the system message first."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return head + self.turns

    def check(self) -> None:
        """Raise ValueError if the file has no chat template, before anybody has typed anything."""
        _ = self.model.chat_template

    def reset(self) -> None:
        """Forget the turns; the system message stays."""
        self.turns.clear()

    def send(self, text: str) -> Generator[Step, None, None]:
        """Add a user turn and stream the answer. What has come of an answer that was left early is kept as it is.

        Raises ValueError at the call if the conversation does not fit the context, or if the template refuses it; the
        turn is not added then.
        """
        user = {"role": "user", "content": text}
        tokens = self.model.chat_tokens([*self.messages, user], enable_thinking=self.enable_thinking)
        return self._answer(user, self.model.steps(tokens, self.options))

    def _answer(self, user: dict[str, str], run: Generator[Step, None, None]) -> Generator[Step, None, None]:
        answer = ""
        try:
            with contextlib.closing(run):
                for step in run:
                    answer += step.text
                    if step.trimmed is not None:  # repetitions kept in the history would invite more of them
                        answer = answer[: step.trimmed]
                    yield step
        finally:
            if answer:
                self.turns += [user, {"role": "assistant", "content": answer}]
