"""Chat templates: messages to prompt text, as transformers renders the same template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from pytrimode.formats import template_worker
from pytrimode.formats.image_part import IMAGE_PART, IMAGE_START
from pytrimode.formats.worker_process import WorkerEndedError, WorkerProcess

Message = Mapping[str, Any]
"""{"role": "system" | "user" | "assistant" | ..., "content": str or a list of {"type": "text", "text": str} and, for a
model with vision, {"type": "image_url", "image_url": {"url": "data:..."}}."""

SECONDS = 1.0
"""Of a processor, for one prompt; usual templates take 0.001."""
MEMORY_BYTES = 1 << 29

_worker = WorkerProcess(template_worker.__file__, "jinja2", seconds=SECONDS, memory=MEMORY_BYTES)


class ChatTemplate:
    """A template with the special tokens that it may name. It runs in a process of its own, within limits.

    `name`: what errors call it. Raises ValueError if the template does not compile.
    """

    def __init__(
        self, source: str, *, bos_token: str = "", eos_token: str = "", name: str = "the chat template"
    ) -> None:
        self.source = source
        self.name = name
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._known = self._ask({"add_generation_prompt": True, "tools": None, "documents": None, **self._tokens})
        if error := self._known.get("error"):
            raise ValueError(f"{name} does not compile: {_printable(error)}")

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names that the template asks for: `messages`, perhaps `tools`, `enable_thinking`, ..."""
        return frozenset(self._known["variables"])

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """Return the prompt text, special tokens spelled out. `continue_final_message`: it ends with the last message,
        which the assistant has begun, and goes on there.

        Parts that are `IMAGE_PART` stand for pictures; a template that does not speak of images gets the token that
        begins one as text.

        Raises ValueError for messages that the template refuses, and for a template that fails or takes too long.
        """
        if not messages:
            raise ValueError("there are no messages")
        given = {
            "messages": [self._message(message) for message in messages],
            "tools": None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt and not continue_final_message,
            **self._tokens,
            **variables,
        }
        answer = self._ask(given)
        if "error" in answer:
            raise ValueError(self._fault(answer))
        text: str = answer["text"]
        return _up_to_the_last(text, messages[-1]) if continue_final_message else text

    def _ask(self, variables: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = _worker.ask({"source": self.source, "variables": variables})
        except WorkerEndedError:
            raise ValueError(f"{self.name} takes more than {SECONDS:g} s, or too much memory, to render") from None
        except (TypeError, RecursionError) as error:
            raise ValueError(f"{self.name}: its variables must be what JSON can hold: {error}") from None
        return answer

    def _fault(self, answer: Mapping[str, Any]) -> str:
        place = f" in line {answer['line']}" if answer["line"] else ""
        what = "refuses these messages" if answer["refused"] else f"fails{place}"
        return f"{self.name} {what}: {_printable(answer['error'])}"

    def _text(self, text: str) -> Any:
        """As a part where the template reads nothing else."""
        in_parts = text and not self._known["reads_text"] and self._known["reads_parts"]
        return [{"type": "text", "text": text}] if in_parts else text

    def _message(self, message: Message) -> dict[str, Any]:
        """As the template can read it: a role that it knows, and content of a kind that it reads."""
        if "role" not in message:
            raise ValueError(f"a chat message needs a role: {dict(message)!r}")
        role = message["role"]
        if role == "developer" and "developer" not in self.source:
            role = "system"  # OpenAI's newer word
        content = message.get("content")
        if content is None or isinstance(content, str):
            content = self._text(content or "")
        else:
            text = "".join(text_parts(content))
            has_pictures = any(part is IMAGE_PART for part in content)
            as_parts = "image" in self.source if has_pictures else self._known["reads_parts"]
            content = list(content) if as_parts else self._text(text)
        return {**message, "role": role, "content": content}


def text_parts(content: Sequence[Any]) -> list[str]:
    """Return the texts of content in parts, a picture as the token that begins it. Raises ValueError for parts of
    another kind.
    """
    texts = []
    for part in content:
        if part is IMAGE_PART:
            texts.append(IMAGE_START)
            continue
        if not isinstance(part, Mapping) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise ValueError(f"message content of type {kind!r} is not supported: only text is")
        if not isinstance(part.get("text"), str):
            raise ValueError("the text of a message part must be a string")
        texts.append(part["text"])
    return texts


def _up_to_the_last(text: str, message: Message) -> str:
    """Return a prompt up to the end of its last message's content, which a template may have stripped."""
    if message["role"] != "assistant":
        raise ValueError(f"continue_final_message: the last message is of {message['role']}, not of the assistant")
    content = message.get("content") or ""
    begun = content if isinstance(content, str) else "".join(text_parts(content))
    place = text.rfind(begun.strip())
    if place < 0 or not begun.strip():
        raise ValueError("continue_final_message: the last message is not in the prompt as the chat template writes it")
    whole = begun.lstrip()
    return text[: place + (len(whole) if text.startswith(whole, place) else len(begun.strip()))]


def _printable(text: str) -> str:
    """In one line, without what a terminal would obey."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:500]
