"""GBNF in llguidance's Lark syntax, of the same texts.

llguidance cuts a text into lexemes and takes the longest one each time, where GBNF looks at single characters and tries
everything. So a regular part of a grammar becomes one lexeme only where that changes nothing: nothing that may follow a
match could make it longer, and no other lexeme that may stand in its place begins as it does. Other parts are taken to
pieces, down to lexemes of one character. A grammar that is regular as a whole is a single lexeme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_

from pytrimode.formats import charsets, gbnf
from pytrimode.formats.gbnf import Alt, Chars, Lexeme, Ref, Rep, Seq, Token
from pytrimode.formats.gbnf_regular import Regular, without_tail_recursion
from pytrimode.formats.lark import literal

MOST_LEXEMES = MOST_RULES = 80
"""Of which it is found out what may follow what; where there are more, each lexeme is one character."""


Tree = gbnf.Node
"""With lexemes for its regular parts."""
Leaf = Lexeme | Token


def gbnf_to_lark(text: str, token_of: gbnf.TokenOf) -> str:
    """Lark rules, `start` among them, for GBNF with a rule `root`. `token_of`: the id of a token by its name, or -1.

    Raises ValueError for what is no GBNF.
    """
    rules = without_tail_recursion(gbnf.parse(text, token_of))
    regular = Regular(rules)
    trees = {"root": _grouped(Ref("root"), regular)}
    if trees["root"] == Ref("root"):
        trees = {name: _grouped(node, regular) for name, node in rules.items() if not regular.holds(Ref(name))}
    while unsafe := _unsafe(trees, regular):
        trees = {name: _replaced(tree, unsafe, rules) for name, tree in trees.items()}
    return _Writer(trees, rules).text()


# --- Trees of lexemes ------------------------------------------------------------------------------------------------


def _grouped(node: gbnf.Node, regular: Regular) -> Tree:
    """With lexemes as large as can be."""
    if regular.holds(node):
        return Lexeme(_spelled_out(node, regular.rules))
    if isinstance(node, Rep):
        return Rep(_grouped(node.item, regular), node.least, node.most)
    if isinstance(node, Seq):
        return Seq(tuple(_runs(node.items, regular)))
    if isinstance(node, Alt):
        kept = [item for item in node.items if regular.holds(item)]
        other = [_grouped(item, regular) for item in node.items if not regular.holds(item)]
        return Alt((*([Lexeme(_spelled_out(gbnf.alternatives(kept), regular.rules))] if kept else []), *other))
    return node


def _spelled_out(node: gbnf.Node, rules: Mapping[str, gbnf.Node]) -> gbnf.Node:
    """Return what a name stands for, so that the same lexemes are equal."""
    while isinstance(node, Ref):
        node = rules[node.name]
    return node


def _runs(items: Iterable[gbnf.Node], regular: Regular) -> Iterable[Tree]:
    run: list[gbnf.Node] = []
    for item in items:
        if regular.holds(item):
            run.append(item)
            continue
        if run:
            yield Lexeme(_spelled_out(gbnf.sequence(run), regular.rules))
        run = []
        yield _grouped(item, regular)
    if run:
        yield Lexeme(_spelled_out(gbnf.sequence(run), regular.rules))


def _replaced(tree: Tree, unsafe: set[Lexeme], rules: Mapping[str, gbnf.Node]) -> Tree:
    """With the lexemes named in pieces."""
    if isinstance(tree, Lexeme):
        return _pieces(tree.node, rules) if tree in unsafe else tree
    if isinstance(tree, Rep):
        return Rep(_replaced(tree.item, unsafe, rules), tree.least, tree.most)
    if isinstance(tree, (Seq, Alt)):
        return type(tree)(tuple(_replaced(item, unsafe, rules) for item in tree.items))
    return tree


def _pieces(node: gbnf.Node, rules: Mapping[str, gbnf.Node]) -> Tree:
    if isinstance(node, Rep):
        return Rep(Lexeme(_spelled_out(node.item, rules)), node.least, node.most)
    if isinstance(node, (Seq, Alt)):
        return type(node)(tuple(Lexeme(_spelled_out(item, rules)) for item in node.items))
    return Lexeme(node)


# --- What may stand beside and behind a lexeme -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Ends:
    """The leaves with which a tree may begin and end, and whether it may be nothing."""

    nullable: bool
    first: frozenset[Leaf]
    last: frozenset[Leaf]


_NOTHING = _Ends(True, frozenset(), frozenset())
_NEVER = _Ends(False, frozenset(), frozenset())


class _Follow:
    def __init__(self, trees: Mapping[str, Tree], regular: Regular) -> None:
        self._regular = regular
        self.ends = dict.fromkeys(trees, _NEVER)
        changed = True
        while changed:
            found = {name: self._of(tree) for name, tree in trees.items()}
            changed = found != self.ends
            self.ends = found
        self.behind: dict[Leaf, set[Leaf]] = {}
        for tree in trees.values():
            self._of(tree, self._join)

    def _join(self, before: frozenset[Leaf], after: frozenset[Leaf]) -> None:
        for leaf in before:
            self.behind.setdefault(leaf, set()).update(after)

    def _of(self, tree: Tree, join: Callable[[frozenset[Leaf], frozenset[Leaf]], None] | None = None) -> _Ends:
        if isinstance(tree, Ref):
            return self.ends[tree.name]
        if isinstance(tree, (Lexeme, Token)):
            nullable = isinstance(tree, Lexeme) and self._regular.traits(tree.node).nullable
            return _Ends(nullable, frozenset([tree]), frozenset([tree]))
        if isinstance(tree, Rep):
            one = self._of(tree.item, join)
            if join and tree.most != 1:
                join(one.last, one.first)
            return _Ends(one.nullable or tree.least == 0, one.first, one.last)
        found = [self._of(item, join) for item in gbnf.parts(tree)]
        if isinstance(tree, Alt):
            return _Ends(
                any(one.nullable for one in found),
                frozenset().union(*(one.first for one in found)),
                frozenset().union(*(one.last for one in found)),
            )
        whole = _NOTHING
        for one in found:
            if join:
                join(whole.last, one.first)
            whole = _Ends(
                whole.nullable and one.nullable,
                whole.first | one.first if whole.nullable else whole.first,
                whole.last | one.last if one.nullable else one.last,
            )
        return whole


def _unsafe(trees: Mapping[str, Tree], regular: Regular) -> set[Lexeme]:
    """Lexemes of more than one character of which the longest match may be the wrong one."""
    if isinstance(trees["root"], Lexeme):
        return set()
    leaves = list(set().union(*map(_leaves, trees.values())))
    long = {leaf for leaf in leaves if isinstance(leaf, Lexeme) and not isinstance(leaf.node, Chars)}
    if len(leaves) > MOST_LEXEMES or len(trees) > MOST_RULES:
        return long
    firsts = [regular.traits(leaf.node).first if isinstance(leaf, Lexeme) else charsets.NONE for leaf in leaves]
    alike = [_set(j for j, b in enumerate(firsts) if j != i and charsets.overlap(a, b)) for i, a in enumerate(firsts)]
    begin, behind = _beside(leaves, alike, _Follow(trees, regular))
    together = {begin, *behind}
    unsafe = set()
    for i, leaf in enumerate(leaves):
        if not isinstance(leaf, Lexeme) or leaf not in long:
            continue
        traits = regular.traits(leaf.node)
        longer = any(charsets.overlap(traits.more, firsts[j]) for j in _members(behind[i]))
        # Of two that begin alike the larger one goes first: what is left of it may be the other one.
        rivals = _union(alike[i] & one for one in together if one >> i & 1)
        if not traits.exact or longer or any(_size(leaf) >= _size(leaves[j]) for j in _members(rivals)):
            unsafe.add(leaf)
    return unsafe


def _size(leaf: Leaf) -> int:
    return _node_size(leaf.node) if isinstance(leaf, Lexeme) else 1


@lru_cache(maxsize=1 << 12)
def _node_size(node: gbnf.Node) -> int:
    return 1 + sum(map(_node_size, gbnf.parts(node)))


def _leaves(tree: Tree) -> set[Leaf]:
    if isinstance(tree, (Lexeme, Token)):
        return {tree}
    return set().union(*map(_leaves, gbnf.parts(tree)))


def _beside(leaves: list[Leaf], alike: list[int], follow: _Follow) -> tuple[int, list[int]]:
    """Return what a text may begin with, and what may stand behind each leaf, or behind another one that may be matched
    at the same time: one that may stand in its place and begins as it does.
    """
    numbers = {leaf: i for i, leaf in enumerate(leaves)}
    begin = _set(numbers[leaf] for leaf in follow.ends["root"].first)
    behind = [_set(numbers[other] for other in follow.behind.get(leaf, ())) for leaf in leaves]
    before = None
    while before != behind:
        before = list(behind)
        for together in {begin, *before}:
            for i in _members(together):
                behind[i] |= _union(before[j] for j in _members(alike[i] & together))
    return begin, behind


# Sets of leaves, by their numbers, are the bits of an integer.


def _set(numbers: Iterable[int]) -> int:
    return _union(1 << number for number in numbers)


def _union(sets: Iterable[int]) -> int:
    return reduce(or_, sets, 0)


def _members(numbers: int) -> Iterable[int]:
    while numbers:
        yield (numbers & -numbers).bit_length() - 1
        numbers &= numbers - 1


# --- Lark ------------------------------------------------------------------------------------------------------------


class _Writer:
    def __init__(self, trees: Mapping[str, Tree], rules: Mapping[str, gbnf.Node]) -> None:
        self._trees, self._rules = trees, rules
        self._names = {name: f"r{i}" for i, name in enumerate(trees)}
        self._terminals: dict[gbnf.Node, str] = {}
        self._lines: list[str] = []

    def text(self) -> str:
        bodies = [f"{self._names[name]}: {self._write(tree, self._leaf)}" for name, tree in self._trees.items()]
        return "\n".join([f"start: {self._names['root']}", *bodies, *self._lines]) + "\n"

    def _leaf(self, leaf: Tree) -> str:
        if isinstance(leaf, Ref):
            return self._names[leaf.name]
        if isinstance(leaf, Token):
            return f"<[{'^' if leaf.negated else ''}{leaf.number}]>"
        assert isinstance(leaf, Lexeme)
        return self._terminal(leaf.node)

    def _terminal(self, node: gbnf.Node) -> str:
        """Return the name of a terminal, each part of which is written once."""
        if isinstance(node, Ref):
            return self._terminal(self._rules[node.name])
        if node not in self._terminals:
            name = self._terminals[node] = f"T{len(self._terminals)}"
            self._lines.append(f"{name}: {self._write(node, self._in_terminal)}")
        return self._terminals[node]

    def _in_terminal(self, leaf: Tree) -> str:
        if isinstance(leaf, Chars):
            return f"/{charsets.regex(leaf.chars)}/" if leaf.chars else "/[a&&b]/"
        assert isinstance(leaf, Ref)
        return self._terminal(leaf)

    def _write(self, tree: Tree, leaf: Callable[[Tree], str]) -> str:
        if isinstance(tree, Seq):
            return " ".join(self._items(tree.items, leaf)) or '""'
        if isinstance(tree, Alt):
            return "(" + " | ".join(self._write(item, leaf) for item in tree.items) + ")"
        if isinstance(tree, Rep):
            return f"({self._write(tree.item, leaf)}){_times(tree)}"
        return leaf(tree)

    def _items(self, items: Iterable[Tree], leaf: Callable[[Tree], str]) -> Iterable[str]:
        """Characters that are certain stand together, as a text."""
        held = ""
        for item in items:
            if isinstance(item, Chars) and len(item.chars) == 1 and item.chars[0][0] == item.chars[0][1]:
                held += chr(item.chars[0][0])
                continue
            if held:
                yield literal(held)
            held = ""
            yield self._write(item, leaf)
        if held:
            yield literal(held)


def _times(rep: Rep) -> str:
    known = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return known.get((rep.least, rep.most)) or f"{{{rep.least},{'' if rep.most is None else rep.most}}}"
