"""Chat templates: messages to prompt text, as transformers renders the same template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.sandbox

from pytrimode.formats.image_part import IMAGE_PART, IMAGE_START

Message = Mapping[str, Any]
"""{"role": "system" | "user" | "assistant" | ..., "content": str or a list of {"type": "text", "text": str} and, for a
model with vision, {"type": "image_url", "image_url": {"url": "data:..."}}."""


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(fmt: str) -> str:
    return datetime.now().strftime(fmt)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Jinja's own filter escapes HTML characters; transformers' does not."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _environment() -> jinja2.Environment:
    """The environment that transformers renders templates in (utils/chat_template_utils.py)."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _plain(message: Message, *, images: bool, as_parts: bool) -> dict[str, Any]:
    """The message with its content as one string; one with pictures as a list, for templates that know these."""
    if "role" not in message:
        raise ValueError(f"a chat message needs a role: {dict(message)!r}")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return {**message, "content": content or ""}
    texts = []
    for part in content:
        if images and part == IMAGE_PART:
            texts.append(IMAGE_START)
            continue
        if not isinstance(part, Mapping) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise ValueError(f"message content of type {kind!r} is not supported: only text is")
        if not isinstance(part.get("text"), str):
            raise ValueError("the text of a message part must be a string")
        texts.append(part["text"])
    if as_parts and any(part == IMAGE_PART for part in content):
        return {**message, "content": [dict(part) for part in content]}
    return {**message, "content": "".join(texts)}


class ChatTemplate:
    """A compiled template with the special tokens that it may name.

    Raises ValueError if the template does not compile.
    """

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "") -> None:
        self.source = source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"the chat template does not compile: line {error.lineno}: {error.message}") from error

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names that the template asks for: `messages`, perhaps `tools`, `enable_thinking`, ..."""
        return frozenset(jinja2.meta.find_undeclared_variables(_environment().parse(self.source)))

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True, images: bool = False, **variables: Any
    ) -> str:
        """The prompt text, special tokens spelled out. `images`: parts that are `IMAGE_PART` stand for pictures; a
        template that does not speak of images gets their start token as text.

        Raises ValueError for messages that the template refuses.
        """
        if not messages:
            raise ValueError("there are no messages")
        plain = [_plain(message, images=images, as_parts="image" in self.source) for message in messages]
        try:
            return self._template.render(
                messages=plain,
                add_generation_prompt=add_generation_prompt,
                **self._tokens,
                **variables,
            )
        except (jinja2.TemplateError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"the chat template refuses these messages: {error}") from error
