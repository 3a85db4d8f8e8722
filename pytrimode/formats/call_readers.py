"""Readers of tool calls: what stands between a format's tags becomes names, and text of arguments as it comes."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pytrimode.formats.json_schema import type_of, types_of
from pytrimode.formats.tools import Tool, named, properties_of

ARGS, CALL_ID = "[ARGS]", "[CALL_ID]"


class CallPart(NamedTuple):
    """What a piece of text added: a call, with its name, or more of the arguments of the last one, which are JSON."""

    name: str | None
    arguments: str


class CallReader(ABC):
    """Reads one body. The parts are the same, joined, however the text is cut."""

    n_whole = 0
    """Calls that are complete."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = tools

    @abstractmethod
    def feed(self, text: str) -> list[CallPart]:
        """Return what became certain, as long as all goes on well."""

    @abstractmethod
    def finish(self) -> list[CallPart]:
        """Return the rest. Raises ValueError, KeyError or TypeError where the body is no call, RecursionError where it
        is too deep."""


def _arguments(raw: str) -> str:
    """Return arguments as an object's text: some models write that as a string. Raises ValueError, TypeError."""
    found = json.loads(raw)
    text = found if isinstance(found, str) else raw
    if not isinstance(json.loads(text), dict):
        raise TypeError("arguments must be an object")
    return text


class JsonReader(CallReader):
    """{"name": ..., "arguments": {...}}, or a list of these."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(tools)
        self._body: list[str] = []
        self._depth = 0  # 1: in a call, outside of its values
        self._in_string = self._escaped = False
        self._key = ""
        self._value: list[str] = []
        self._fields: dict[str, str] = {}
        self._told = False  # the call's name and the beginning of its arguments
        self._error: Exception | None = None

    def feed(self, text: str) -> list[CallPart]:
        """Return arguments from their brace on, where the name came before them."""
        self._body.append(text)
        parts: list[CallPart] = []
        for char in text:
            if self._error is None:
                self._take(char, parts)
        return parts

    def finish(self) -> list[CallPart]:
        """Return nothing: a whole object is told at its end."""
        json.loads("".join(self._body))
        if self._error or not self.n_whole:
            raise self._error or ValueError("no call")
        return []

    def _take(self, char: str, parts: list[CallPart]) -> None:
        inside = self._depth > 0
        if self._in_string:
            self._in_string = self._escaped or char != '"'
            self._escaped = char == "\\" and not self._escaped
        elif char == '"':
            self._in_string = True
        elif char == "{" or (char == "[" and inside):
            self._depth += 1
        elif char in "}]" and inside:
            self._depth -= 1
            if self._depth == 0:
                self._end_field()
                self._end_call(parts)
                return
        elif self._depth == 1 and char == ":" and not self._key:
            self._key, self._value = "".join(self._value), []
            return
        elif self._depth == 1 and char == ",":
            self._end_field()
            return
        if inside:
            self._value.append(char)
            self._tell(char, parts)

    def _tell(self, char: str, parts: list[CallPart]) -> None:
        if self._told:
            if self._key.strip() == '"arguments"' and (self._depth > 1 or char == "}"):
                parts.append(CallPart(None, char))
        elif self._depth == 2 and char == "{" and self._key.strip() == '"arguments"' and '"name"' in self._fields:
            try:
                name = json.loads(self._fields['"name"'])
            except ValueError:
                return
            if isinstance(name, str):
                self._told = True
                parts.append(CallPart(name, char))

    def _end_field(self) -> None:
        key = self._key.strip()
        if key in self._fields:
            self._error = ValueError(f"{key} stands there twice")
        self._fields[key] = "".join(self._value).strip()
        self._key, self._value = "", []

    def _end_call(self, parts: list[CallPart]) -> None:
        fields, told = self._fields, self._told
        self._fields, self._told = {}, False
        try:
            name = json.loads(fields['"name"'])
            arguments = _arguments(fields.get('"arguments"', fields.get('"parameters"', "{}")))
            if not isinstance(name, str):
                raise TypeError("a name must be text")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._error = error
            return
        self.n_whole += 1
        if not told:
            parts.append(CallPart(name, arguments))


class ArgsReader(CallReader):
    """name[ARGS]{...}, with or without [CALL_ID] behind the name."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(tools)
        self._held = ""
        self._name: str | None = None
        self._raw: list[str] = []

    def feed(self, text: str) -> list[CallPart]:
        """Return arguments from their brace on."""
        self._held += text
        if self._name is None:
            head, found, tail = self._held.partition(ARGS)
            if not found:
                return []
            self._name, self._held = head.partition(CALL_ID)[0].strip(), tail
        if not self._raw:
            self._held = self._held.lstrip()
            if not self._held.startswith("{"):
                return []
        keep = len(self._held.rstrip())  # white space behind the object is no part of it
        ready, self._held = self._held[:keep], self._held[keep:]
        if not ready:
            return []
        first = not self._raw
        self._raw.append(ready)
        return [CallPart(self._name if first else None, ready)]

    def finish(self) -> list[CallPart]:
        """Return arguments that are an object in a string."""
        if self._name is None:
            raise ValueError("no call")
        arguments = _arguments("".join(self._raw) or self._held.strip())
        self.n_whole = 1
        return [] if self._raw else [CallPart(self._name, arguments)]


class TagsReader(CallReader):
    """<function=name> with <parameter=key> value </parameter> in it, or several of these."""

    _NAME = re.compile(r"<function=([^>\n]+)>")
    _KEY = re.compile(r"<parameter=([^>\n]+)>|</function>")
    _END = "</parameter>"

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(tools)
        self._held = ""
        self._tool: list[Tool] | None = None  # of the call that is being read
        self._key: str | None = None
        self._n_keys = 0
        self._told = False  # the beginning of the value

    def feed(self, text: str) -> list[CallPart]:
        """Return each value at its end, and what can be nothing but text as it comes."""
        self._held += text
        parts: list[CallPart] = []
        while self._begin(parts) if self._tool is None else self._go_on(parts):
            pass
        return parts

    def finish(self) -> list[CallPart]:
        """Return nothing: a call ends with its tag."""
        if not self.n_whole:
            raise ValueError("no call")
        return []

    def _begin(self, parts: list[CallPart]) -> bool:
        if not (found := self._NAME.search(self._held)):
            return False
        self._held, self._tool, self._n_keys = self._held[found.end() :], named(self._tools, found[1]), 0
        parts.append(CallPart(found[1], "{"))
        return True

    def _go_on(self, parts: list[CallPart]) -> bool:
        if self._key is not None:
            return self._value(parts)
        if not (found := self._KEY.search(self._held)):
            return False
        self._held, self._key = self._held[found.end() :], found[1]
        if self._key is None:
            self._tool = None
            self.n_whole += 1
            parts.append(CallPart(None, "}"))
            return True
        parts.append(CallPart(None, f"{', ' if self._n_keys else ''}{_written(self._key)}: "))
        self._n_keys += 1
        self._told = False
        return True

    def _value(self, parts: list[CallPart]) -> bool:
        schema, parameters = self._schema()
        value, found, tail = self._held.partition(self._END)
        if found:
            value = value.removesuffix("\n")
            if self._told:
                parts.append(CallPart(None, _written(value)[1:]))
            else:
                parts.append(CallPart(None, _written(_typed(value.removeprefix("\n"), schema, parameters))))
            self._held, self._key = tail, None
            return True
        keep = self._possible_end()
        if types_of(schema, parameters) == {"string"} and keep > (not self._told):
            ready, self._held = self._held[:keep], self._held[keep:]
            text = _written(ready if self._told else ready.removeprefix("\n"))[:-1]
            parts.append(CallPart(None, text[1:] if self._told else text))
            self._told = True
        return False

    def _possible_end(self) -> int:
        """Where the tail begins that may belong to the end of the value."""
        text, end = self._held, "\n" + self._END
        first = max(0, len(text) - len(end) + 1)
        return next((i for i in range(first, len(text)) if end.startswith(text[i:]) or self._END.startswith(text[i:])),
                    len(text))  # fmt: skip

    def _schema(self) -> tuple[Any, Mapping[str, Any]]:
        tool = self._tool or []
        parameters = (tool[0]["function"].get("parameters") or {}) if tool else {}
        return properties_of(tool).get(self._key or "", {}), parameters


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _typed(value: str, schema: Any, parameters: Mapping[str, Any]) -> Any:
    """Return a value in its type: any but a string is written as JSON."""
    types = types_of(schema, parameters)
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    if "string" not in types:
        return found
    kinds = {"integer", "number"} if type_of(found) == "integer" else {type_of(found)}
    return found if kinds & (types - {"string"}) else value
