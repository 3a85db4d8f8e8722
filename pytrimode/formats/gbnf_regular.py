"""The regular parts of a GBNF grammar: which of its rules are regular, and what may follow a match of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pytrimode.formats import charsets
from pytrimode.formats.charsets import Charset
from pytrimode.formats.gbnf import Alt, Chars, Node, Ref, Rep, Seq, Token, alternatives, parts, sequence

ENDLESS = 1 << 20
"""Repetitions of what a rule says that never ends."""


@dataclass(frozen=True)
class Traits:
    """Of the texts that a regular node matches."""

    nullable: bool
    first: Charset
    """With what they begin."""
    more: Charset
    """With what some of them goes on behind another one."""
    exact: bool
    """Whether each character can be at one place of the node only; if not, `more` does not hold."""


def without_tail_recursion(rules: Mapping[str, Node]) -> dict[str, Node]:
    """Return the same rules; those that go on with themselves at one of their ends repeat instead."""
    return {name: _repeating(name, node) for name, node in rules.items()}


def _repeating(name: str, node: Node) -> Node:
    me = Ref(name)
    optional = isinstance(node, Rep) and node.item != me and (node.least, node.most) == (0, 1)
    body = node.item if optional and isinstance(node, Rep) else node
    ways = body.items if isinstance(body, Alt) else (body,)
    for place in (-1, 0):
        again = [way.items for way in ways if isinstance(way, Seq) and way.items and way.items[place] == me]
        rest = [way for way in ways if not (isinstance(way, Seq) and way.items and way.items[place] == me)]
        steps = [sequence(items[:-1] if place else items[1:]) for items in again]
        if not again or any(_names(part, name) for part in (*steps, *rest)):
            continue
        step = alternatives(steps)
        if optional:
            rest.append(Seq(()))
        if not rest:
            return Rep(step, ENDLESS, None)
        pair = [Rep(step, 0, None), alternatives(rest)]
        return sequence(pair if place else pair[::-1])
    return node


def _names(node: Node, name: str) -> bool:
    if isinstance(node, Ref):
        return node.name == name
    return any(_names(part, name) for part in parts(node))


class Regular:
    """What is regular in a grammar's rules."""

    def __init__(self, rules: Mapping[str, Node]) -> None:
        self.rules = rules
        self._traits: dict[Node, Traits] = {}

    @cached_property
    def _irregular(self) -> frozenset[str]:
        """Rules that name tokens, or lead to themselves, or to such a rule."""
        needs = {name: _used(node) for name, node in self.rules.items()}
        users: dict[str, list[str]] = {name: [] for name in needs}
        for name, used in needs.items():
            for one in used - {None}:
                users[str(one)].append(name)
        free = [name for name, used in needs.items() if not used]
        left = set(needs)
        while free:
            name = free.pop()
            left.remove(name)
            for user in users[name]:
                needs[user].discard(name)
                if not needs[user]:
                    free.append(user)
        return frozenset(left)

    def holds(self, node: Node) -> bool:
        """Whether a node is a regular expression."""
        return not any(name is None or name in self._irregular for name in _used(node))

    def traits(self, node: Node) -> Traits:
        """Of a regular node."""
        if node not in self._traits:
            self._traits[node] = self._find(node)
        return self._traits[node]

    def _find(self, node: Node) -> Traits:
        if isinstance(node, Chars):
            return Traits(False, node.chars, charsets.NONE, True)
        if isinstance(node, Ref):
            return self.traits(self.rules[node.name])
        if isinstance(node, Rep):
            return self._of_rep(node)
        found = [self.traits(part) for part in parts(node)]
        return _of_alt(found) if isinstance(node, Alt) else _of_seq(found)

    def _of_rep(self, node: Rep) -> Traits:
        one = self.traits(node.item)
        nullable = node.least == 0 or one.nullable
        if node.most == 1:
            return Traits(nullable, one.first, one.more, one.exact)
        exact = one.exact and not charsets.overlap(one.more, one.first)
        certain = node.least == node.most and not one.nullable
        return Traits(nullable, one.first, one.more if certain else charsets.union(one.more, one.first), exact)


def _of_alt(found: list[Traits]) -> Traits:
    first = charsets.NONE
    exact = all(one.exact for one in found)
    for one in found:
        exact = exact and not charsets.overlap(first, one.first)
        first = charsets.union(first, one.first)
    return Traits(any(t.nullable for t in found), first, charsets.union(*(t.more for t in found)), exact)


def _of_seq(found: list[Traits]) -> Traits:
    all_ = Traits(True, charsets.NONE, charsets.NONE, True)
    for one in found:
        apart = not charsets.overlap(all_.more, one.first) and not (
            all_.nullable and charsets.overlap(all_.first, one.first)
        )
        more = charsets.union(one.more, all_.more, one.first) if one.nullable else one.more
        first = charsets.union(all_.first, one.first) if all_.nullable else all_.first
        all_ = Traits(all_.nullable and one.nullable, first, more, all_.exact and one.exact and apart)
    return all_


def _used(node: Node) -> set[str | None]:
    """Return the rules that a node names; None for a token."""
    found: set[str | None] = set()
    level = [node]
    while level:
        found |= {one.name for one in level if isinstance(one, Ref)}
        found |= {None for one in level if isinstance(one, Token)}
        level = [part for one in level for part in parts(one)]
    return found
