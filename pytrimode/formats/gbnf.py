"""llama.cpp's grammars (GBNF, its grammars/README.md) as trees."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from pytrimode.formats import charsets
from pytrimode.formats.charsets import Charset

MAX_DEPTH = 100
"""Of groups within groups; a group of one thing alone does not count."""
MAX_REPEATS = 1 << 20


def _hash(node: Any) -> int:
    """Found once for each node: trees are large, and keys of many sets."""
    known: int | None = node.__dict__.get("_hash")
    if known is None:
        known = hash((type(node), *(getattr(node, one.name) for one in fields(node))))
        object.__setattr__(node, "_hash", known)
    return known


@dataclass(frozen=True)
class Chars:
    """One character of a set."""

    chars: Charset
    __hash__ = _hash


@dataclass(frozen=True)
class Token:
    """One token, or any other one."""

    number: int
    negated: bool = False
    __hash__ = _hash


@dataclass(frozen=True)
class Ref:
    """What a rule says."""

    name: str
    __hash__ = _hash


@dataclass(frozen=True)
class Seq:
    """One after the other; nothing for no items."""

    items: tuple[Node, ...]
    __hash__ = _hash


@dataclass(frozen=True)
class Alt:
    """One of several."""

    items: tuple[Node, ...]
    __hash__ = _hash


@dataclass(frozen=True)
class Rep:
    """The same several times. `most` None: any number of times."""

    item: Node
    least: int
    most: int | None
    __hash__ = _hash


@dataclass(frozen=True)
class Lexeme:
    """A regular node that a lexer matches as a whole; `gbnf_lark` makes them."""

    node: Node
    __hash__ = _hash


Node = Chars | Token | Ref | Seq | Alt | Rep | Lexeme
TokenOf = Callable[[str], int]
"""The id of the token that is spelled so; -1: none."""


def sequence(items: Iterable[Node]) -> Node:
    """Items one after the other, as simply as it can be written."""
    flat = [part for item in items for part in (item.items if isinstance(item, Seq) else (item,))]
    return flat[0] if len(flat) == 1 else Seq(tuple(flat))


def alternatives(items: Iterable[Node]) -> Node:
    """One of the items, as simply as it can be written."""
    flat = [part for item in items for part in (item.items if isinstance(item, Alt) else (item,))]
    return flat[0] if len(flat) == 1 else Alt(tuple(dict.fromkeys(flat)))


class _SyntaxError(ValueError):
    pass


@dataclass
class _Group:
    """What stands between parentheses so far, or behind a rule's ::=."""

    done: list[Node] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)

    def end_alternative(self) -> None:
        self.done.append(sequence(self.items))
        self.items = []

    def close(self) -> Node:
        self.end_alternative()
        return alternatives(self.done)


_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_REPEATS = re.compile(r"\{[ \t\r\n]*(\d+)[ \t\r\n]*(?:(,)[ \t\r\n]*(\d*)[ \t\r\n]*)?\}")
_TOKEN_NUMBER = re.compile(r"<\[(\d+)\]>")
_TOKEN_NAME = re.compile(r"<[^<>\s]+>")
_HEX = {"x": 2, "u": 4, "U": 8}
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]"}


class _Parser:
    def __init__(self, text: str, token_of: TokenOf) -> None:
        self._text = text
        self._token_of = token_of
        self._at = 0
        self.rules: dict[str, Node] = {}

    def parse(self) -> None:
        try:
            self._skip(_SPACE_AND_LINES)
            while self._at < len(self._text):
                self._rule()
                self._skip(_SPACE_AND_LINES)
        except _SyntaxError as fault:
            line = self._text.count("\n", 0, self._at) + 1
            raise ValueError(f"{fault} in line {line}, at {self._text[self._at : self._at + 20]!r}") from None
        if "root" not in self.rules:
            raise ValueError("there is no rule root")

    def _skip(self, what: re.Pattern[str]) -> None:
        found = what.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _take(self, what: re.Pattern[str]) -> re.Match[str] | None:
        found = what.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found

    def _rule(self) -> None:
        name = self._take(_NAME)
        if not name:
            raise _SyntaxError("a rule's name is expected")
        self._skip(_SPACE)
        if not self._text.startswith("::=", self._at):
            raise _SyntaxError("::= is expected")
        self._at += 3
        self._skip(_SPACE_AND_LINES)
        self.rules[name[0]] = self._body()

    def _body(self) -> Node:
        """Up to the line's end; what is in parentheses goes over it. Without recursion: they may be many."""
        groups = [_Group()]
        while True:
            char = self._text[self._at : self._at + 1]
            group = groups[-1]
            if char == "(":
                self._at += 1
                groups.append(_Group())
            elif char == ")" and len(groups) > 1:
                self._at += 1
                groups.pop()
                groups[-1].items.append(group.close())
                self._repeats(groups[-1])
            elif char == "|":
                self._at += 1
                group.end_alternative()
                self._skip(_SPACE_AND_LINES)
            elif char in ("", "\r", "\n") and len(groups) == 1:
                return group.close()
            else:
                group.items.append(self._item(char))
                self._repeats(group)
            self._skip(_SPACE_AND_LINES if len(groups) > 1 else _SPACE)

    def _item(self, char: str) -> Node:
        if char == '"':
            return self._literal()
        if char == "[":
            return self._class()
        if char == ".":
            self._at += 1
            return Chars(charsets.complement(()))
        if char in ("<", "!"):
            return self._token()
        if name := self._take(_NAME):
            return Ref(name[0])
        raise _SyntaxError("something else is expected")

    def _literal(self) -> Node:
        self._at += 1
        items: list[Node] = []
        while not self._text.startswith('"', self._at):
            code = self._char()
            items.append(Chars(charsets.of_ranges([(code, code)])))
        self._at += 1
        return sequence(items)

    def _class(self) -> Node:
        self._at += 1
        negated = self._text.startswith("^", self._at)
        self._at += negated
        ranges = []
        while not self._text.startswith("]", self._at):
            low = high = self._char()
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                high = self._char()
            if low > high:
                raise _SyntaxError("a range of characters is the wrong way round")
            ranges.append((low, high))
        self._at += 1
        chars = charsets.of_ranges(ranges)
        return Chars(charsets.complement(chars) if negated else chars)

    def _char(self) -> int:
        """One character, or what is written in its place."""
        char = self._text[self._at : self._at + 1]
        if char == "\\":
            kind = self._text[self._at + 1 : self._at + 2]
            if kind in _ESCAPES:
                self._at += 2
                return ord(_ESCAPES[kind])
            digits = self._text[self._at + 2 : self._at + 2 + _HEX.get(kind, 0)]
            if kind not in _HEX or not re.fullmatch(f"[0-9A-Fa-f]{{{_HEX[kind]}}}", digits):
                raise _SyntaxError("an escape is not known")
            code = int(digits, 16)
            self._at += 2 + len(digits)
        elif char:
            code = ord(char)
            self._at += 1
        else:
            raise _SyntaxError("the end of a text or of a class is expected")
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise _SyntaxError(f"U+{code:04X} is no character")
        return code

    def _token(self) -> Node:
        negated = self._text.startswith("!", self._at)
        self._at += negated
        if number := self._take(_TOKEN_NUMBER):
            return Token(int(number[1][:10]), negated)
        name = self._take(_TOKEN_NAME)
        if not name:
            raise _SyntaxError("a token is expected")
        found = self._token_of(name[0])
        if found < 0:
            raise _SyntaxError(f"{name[0]} is no token of this model")
        return Token(found, negated)

    def _repeats(self, group: _Group) -> None:
        while True:
            self._skip(_SPACE)
            char = self._text[self._at : self._at + 1]
            if char and char in "*+?":
                self._at += 1
                least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
            elif char == "{":
                least, most = self._range()
            else:
                return
            group.items[-1] = Rep(group.items[-1], least, most)

    def _range(self) -> tuple[int, int | None]:
        found = self._take(_REPEATS)
        if not found:
            raise _SyntaxError("{m}, {m,} or {m,n} is expected")
        if max(len(part or "") for part in found.groups()) > 9:
            raise _SyntaxError("a repetition is too long")
        least = int(found[1])
        most = least if not found[2] else int(found[3]) if found[3] else None
        if most is not None and most < least:
            raise _SyntaxError(f"a repetition of at least {least} and at most {most} times")
        if max(least, most or 0) > MAX_REPEATS:
            raise _SyntaxError(f"a repetition of more than {MAX_REPEATS} times")
        return least, most


def parse(text: str, token_of: TokenOf) -> dict[str, Node]:
    """Return the rules of a grammar by their names, `root` among them.

    Raises ValueError for what is no GBNF, for tokens and rules that are not there, and for groups nested too deeply.
    """
    parser = _Parser(text, token_of)
    parser.parse()
    for node in parser.rules.values():
        _check(node, parser.rules)
    return parser.rules


def parts(node: Node) -> tuple[Node, ...]:
    """Return what a node is made of."""
    if isinstance(node, (Seq, Alt)):
        return node.items
    return (node.item,) if isinstance(node, Rep) else ()


def _check(node: Node, rules: dict[str, Node]) -> None:
    level: list[Node] = [node]
    for _ in range(MAX_DEPTH):
        for one in level:
            if isinstance(one, Ref) and one.name not in rules:
                raise ValueError(f"there is no rule {one.name}")
        level = [part for one in level for part in parts(one)]
        if not level:
            return
    raise ValueError(f"its groups are nested more than {MAX_DEPTH} deep")
