"""A conversation: its messages, and the next answer as a stream of steps."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytrimode.options.generation_options import GenerationOptions
from pytrimode.vision.picture import DEFAULT_LIMITS, open_picture
from pytrimode.vision.prompt import LOCAL, count_images

if TYPE_CHECKING:
    from pytrimode.answers.step import Step
    from pytrimode.trimode import TriMode
    from pytrimode.vision.prompt import Prompt

REPLY_SHARE = 4
"""1 / REPLY_SHARE of the context is kept free for a reply of no stated length."""


_TOKEN, _LONGEST_TOKEN = 8, 1024
"""Characters of a token: what is rarely more, and what never is."""


class Loaded(NamedTuple):
    """What came of loading a conversation."""

    cached_tokens: int
    """Tokens whose keys and values are in the cache again."""
    notice: str
    """Why the saved cache could not be used; "" when it could."""


class ChatSession:
    """Messages so far, with the model that answers them. The engine computes only what the last turn added."""

    def __init__(
        self, model: TriMode, *, system: str | None = None, options: GenerationOptions, enable_thinking: bool = False
    ) -> None:
        self.model = model
        self.options = options
        self.enable_thinking = enable_thinking
        self.system = system
        self.turns: list[dict[str, Any]] = []
        self.dropped_turns = 0
        """How many of the oldest turns the last `send` left out because the context was full."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation, the system message first."""
        return self._messages(self.turns)

    def _messages(self, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        head: list[dict[str, Any]] = [{"role": "system", "content": self.system}] if self.system else []
        return head + turns

    def check(self) -> None:
        """Raise ValueError if the file has no chat template, before anybody has typed anything."""
        _ = self.model.chat_template

    def reset(self) -> None:
        """Forget the turns; the system message stays."""
        self.turns.clear()

    def send(self, text: str, images: Sequence[Any] = ()) -> Generator[Step, None, None]:
        """Add a user turn, `images` in front of its text, and stream the answer.

        What has come of an answer that was left early is kept as it is.

        When the conversation leaves too little of the context for the reply (`max_tokens`, or a quarter of the context
        where none is given or none would ever fit), its oldest turns are left out: `dropped_turns` tells how many. They
        are gone from `turns` when the answer is there. The system message stays.

        Raises ValueError at the call if this turn alone does not fit the context, or if the template refuses it; the
        turn is not added then.
        """
        user = {"role": "user", "content": with_images(text, images)}
        prompt, kept_from, dropped = self._fit(user)
        run = self.model.steps(prompt.tokens, self.options, pictures=prompt.pictures)
        self.dropped_turns = dropped
        return self._answer(user, kept_from, run)

    def _answer(
        self, user: dict[str, Any], kept_from: int, run: Generator[Step, None, None]
    ) -> Generator[Step, None, None]:
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
                del self.turns[:kept_from]
                self.turns += [user, {"role": "assistant", "content": answer}]

    def _prompt(self, turns: list[dict[str, Any]]) -> Prompt:
        return self.model.chat_prompt(self._messages(turns), enable_thinking=self.enable_thinking)

    def _fit(self, user: dict[str, Any]) -> tuple[Prompt, int, int]:
        """Return the prompt, the index of the first message it keeps, and how many turns it leaves out."""
        n_ctx = self.model.n_ctx
        alone = self._prompt([user])
        reply = self.options.max_tokens or -1
        if reply == -1 or len(alone.tokens) + reply > n_ctx:
            reply = n_ctx // REPLY_SHARE
        begins = [i for i, message in enumerate(self.turns) if i == 0 or message["role"] == "user"]

        def fits(n_dropped: int) -> Prompt | None:
            turns = [*self.turns[begins[n_dropped] :], user]
            if len(turns) > n_ctx or _n_chars(turns) > n_ctx * _LONGEST_TOKEN:  # a message has a token at least
                return None
            if count_images(turns) > DEFAULT_LIMITS.max_images:
                return None
            prompt = self._prompt(turns)
            return prompt if len(prompt.tokens) + reply <= n_ctx else None

        # Search for the fewest turns to leave out: first none; where that cannot be, all but 1, 2, 4, ...
        found, fitting, unfitting = alone, len(begins), -1
        step = len(begins) if _n_chars(self.turns) <= n_ctx * _TOKEN else 1
        while fitting - unfitting > 1:
            n_dropped = max(0, fitting - step) if unfitting < 0 else (fitting + unfitting) // 2
            if prompt := fits(n_dropped):
                found, fitting, step = prompt, n_dropped, 2 * step
            else:
                unfitting = n_dropped
        return found, begins[fitting] if fitting < len(begins) else len(self.turns), fitting

    def undo(self) -> dict[str, Any]:
        """Take the last turn back; returns the user's message. Raises ValueError where there is none."""
        begins = [i for i, message in enumerate(self.turns) if message["role"] == "user"]
        if not begins:
            raise ValueError("there is no turn yet")
        user = self.turns[begins[-1]]
        del self.turns[begins[-1] :]
        return user

    def save(self, path: str | Path, *, with_cache: bool = True) -> int:
        """Write the conversation and what the cache holds of it to a file; returns how many tokens that is.

        An answer that is still being streamed is not part of it.
        Raises FileExistsError for a file that is no conversation, OSError where it cannot be written.
        """
        from pytrimode.files.conversation_file import SavedConversation, write_conversation

        # Up to where the next turn begins to differ from any other.
        prompt = self._fit({"role": "user", "content": ""})[0] if with_cache else None
        cache = self.model.save_state(prompt.tokens if prompt else [], pictures=prompt.pictures if prompt else None)
        saved = SavedConversation(self.system, self.turns, self.enable_thinking, self.options, cache)
        write_conversation(Path(path).expanduser(), saved)
        return len(cache.tokens)

    def load(self, path: str | Path) -> Loaded:
        """Go on with a saved conversation: its messages and options take the place of this session's.

        A cache that this model cannot use, of other weights or another type or longer than the context, is left out:
        the next turn computes everything anew.
        Raises ValueError, and changes nothing, for a file that is damaged, or no conversation, or one with another
        model; OSError where it cannot be read.
        """
        from pytrimode.files.conversation_file import read_conversation

        model = self.model
        saved = read_conversation(Path(path).expanduser(), origin=model.origin, n_ctx=model.n_ctx)
        try:
            model.resolve(saved.options, n_prompt=1)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: its options are not for this model: {error}") from error
        notice = saved.unread
        try:
            if not notice:
                model.load_state(saved.cache)
        except (ValueError, RuntimeError) as error:
            notice = str(error)
        self.system, self.enable_thinking, self.options = saved.system, saved.enable_thinking, saved.options
        self.turns[:] = saved.turns
        return Loaded(0, notice) if notice else Loaded(len(saved.cache.tokens), "")


def _n_chars(turns: Sequence[dict[str, Any]]) -> int:
    """Count the characters of all texts."""
    contents = (turn["content"] for turn in turns)
    return sum(len(c) if isinstance(c, str) else sum(len(part.get("text", "")) for part in c) for c in contents)


def with_images(text: str, images: Sequence[Any]) -> str | list[dict[str, Any]]:
    """Return the content of a turn: its images, opened once, in front of its text."""
    if not images:
        return text
    return [*({"type": LOCAL, LOCAL: open_picture(image)} for image in images), {"type": "text", "text": text}]
