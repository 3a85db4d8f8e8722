"""What the chat talks to: a model in this process, or a server. Both answer in parts."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pytrimode.answers.live_pass import LivePasses
from pytrimode.answers.results import BlockToken, FinishDetails, Timings
from pytrimode.answers.step import Step
from pytrimode.cli.chat_options import chat_options
from pytrimode.conversation.chat_session import ChatSession
from pytrimode.options.generation_options import with_options
from pytrimode.options.modes import MODE_NAMES, check_mode
from pytrimode.options.option import Row
from pytrimode.trimode import TriMode
from pytrimode.vision.picture import Picture, open_picture
from pytrimode.vision.prompt import LOCAL, NO_VISION


@dataclass(frozen=True)
class Part:
    """What one forward pass brought."""

    text: str
    block: Sequence[BlockToken | None] = ()
    """Mode diffusion: the block as it stands, None where masked."""
    draft: Sequence[str] = ()
    """Mode self-spec: the tokens that the pass proposed ..."""
    accepted: int | None = None
    """... and how many of the proposal before it were kept."""
    finish: FinishDetails | None = None
    """With the last part, as `timings`."""
    timings: Timings | None = None


def parts_of(run: Generator[Step, None, None], model: TriMode) -> Generator[Part, None, None]:
    """Yield the parts of an answer that is made in this process."""
    passes = LivePasses(model)
    try:
        for step in run:
            live = passes.of(step) or {}
            ending = step.ending
            details, timings = (ending.details, ending.measured["timings"]) if ending else (None, None)
            yield Part(step.text, live.get("block", ()), live.get("draft", ()), live.get("accepted"), details, timings)
    finally:
        run.close()


class Conversation(Protocol):
    """Messages so far, and who answers them. The methods raise ValueError for what the user got wrong."""

    @property
    def dropped_turns(self) -> int:
        """How many of the oldest turns the last `send` left out because the context was full."""

    @property
    def about(self) -> str:
        """Model and mode in a line."""

    @property
    def mode(self) -> str:
        """The mode of the next answer."""

    @property
    def max_tokens(self) -> int | None:
        """Of an answer; None or -1: to the end of the context."""

    @property
    def n_turns(self) -> int:
        """Questions so far."""

    @property
    def last_answer(self) -> str:
        """The text of the last answer; "" before the first."""

    @property
    def settings(self) -> dict[str, Any]:
        """Options of the answers to come, by their flags without dashes."""

    def set_option(self, row: Row, value: Any) -> None:
        """Set one of them."""

    def set_thinking(self, wanted: bool) -> None:
        """Let the model reason before it answers, or not."""

    def undo(self) -> str:
        """Take the last turn back, its images go with the next one; returns what the user said."""

    def keep(self, path: str) -> None:
        """Write the conversation without its cache, where that is possible. Raises OSError."""

    def set_mode(self, name: str) -> None:
        """Set the mode of the answers to come."""

    def set_system(self, text: str | None) -> None:
        """Another system message, or none; the turns are forgotten."""

    def reset(self) -> None:
        """Forget the turns; the system message stays."""

    def add_image(self, path: str) -> str:
        """Add an image to the next turn; returns what to say about it. Raises OSError too."""

    def send(self, text: str) -> Generator[Part, None, None]:
        """Add a turn, with the images that were added, and stream the answer; what has come of one that was left early
        is kept as it is."""

    def save(self, path: str) -> str:
        """Write the conversation to a file; returns what to say about it. Raises OSError too."""

    def load(self, path: str) -> str:
        """Go on with such a file; returns what to say about it. Raises OSError too."""


class LocalConversation:
    """With a model in this process."""

    def __init__(self, session: ChatSession) -> None:
        self._session = session
        self._images: list[Picture] = []

    @property
    def about(self) -> str:
        """See Conversation."""
        model = self._session.model
        drafter = f", drafter LoRA of rank {model.lora_rank}" if model.has_lora else ""
        threads = f"{model.n_threads} thread{'s' if model.n_threads > 1 else ''}"
        name = model.metadata.get("general.name", model.model_path)
        vision = ", takes images (/image FILE)" if model.vision else ""
        return f"{name}: mode {self._checked(self.mode)}, context {model.n_ctx}{drafter}{vision}, {threads}"

    @property
    def mode(self) -> str:
        """See Conversation."""
        return self._session.options.mode

    @property
    def max_tokens(self) -> int | None:
        """See Conversation."""
        return self._session.options.max_tokens

    @property
    def n_turns(self) -> int:
        """See Conversation."""
        return sum(message["role"] == "user" for message in self._session.turns)

    @property
    def dropped_turns(self) -> int:
        """See Conversation."""
        return self._session.dropped_turns

    def set_mode(self, name: str) -> None:
        """See Conversation."""
        self._session.options = replace(self._session.options, mode=self._checked(name))

    def set_system(self, text: str | None) -> None:
        """See Conversation."""
        self._session.system = text
        self._session.reset()

    def reset(self) -> None:
        """See Conversation."""
        self._session.reset()

    @property
    def last_answer(self) -> str:
        """See Conversation."""
        return next((turn["content"] for turn in reversed(self._session.turns) if turn["role"] == "assistant"), "")

    @property
    def settings(self) -> dict[str, Any]:
        """See Conversation."""
        options = self._session.options
        values = {**vars(options), **vars(options.sampling)}
        return {name: values[row.name] for name, row in chat_options().items()}

    def set_option(self, row: Row, value: Any) -> None:
        """See Conversation."""
        options = with_options(self._session.options, {row.name: value})
        self._session.model.resolve(options, n_prompt=1)
        self._session.options = options

    def set_thinking(self, wanted: bool) -> None:
        """See Conversation."""
        self._session.enable_thinking = wanted

    def undo(self) -> str:
        """See Conversation."""
        content = self._session.undo()["content"]
        if isinstance(content, str):
            return content
        self._images = [part[LOCAL] for part in content if part["type"] == LOCAL]
        return next((str(part["text"]) for part in content if part["type"] == "text"), "")

    def keep(self, path: str) -> None:
        """See Conversation."""
        self._session.save(path, with_cache=False)

    def add_image(self, path: str) -> str:
        """See Conversation."""
        vision = self._session.model.vision
        if vision is None:
            raise ValueError(NO_VISION.format(self._session.model.model_path))
        picture = open_picture(path)
        self._images.append(picture)
        columns, rows = picture.grid(vision.max_side)
        return f"{path}: {picture.width} x {picture.height}, {1 + rows * (columns + 1)} tokens; goes with the next turn"

    def send(self, text: str) -> Generator[Part, None, None]:
        """See Conversation."""
        parts = parts_of(self._session.send(text, self._images), self._session.model)
        self._images = []
        return parts

    def save(self, path: str) -> str:
        """Save the conversation with its cache; returns what to say about it."""
        return f"{self._session.save(path)} tokens of the cache with it"

    def load(self, path: str) -> str:
        """With its mode and other options, and its cache where that fits."""
        loaded = self._session.load(path)
        cache = f"the cache is not used: {loaded.notice}" if loaded.notice else f"{loaded.cached_tokens} tokens cached"
        return f"mode {self.mode}, {cache}"

    def _checked(self, name: str) -> str:
        return check_mode(name, has_mask=self._session.model.mask_token_id >= 0)


def check_mode_name(name: str) -> None:
    """Check a name. Raises ValueError where no mode has it."""
    if name not in MODE_NAMES:
        raise ValueError(f"unknown mode {name!r}: {', '.join(MODE_NAMES)}")
