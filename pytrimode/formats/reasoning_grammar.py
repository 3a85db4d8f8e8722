"""Grammars for what follows the reasoning, where a prompt has left it open."""

from __future__ import annotations

import re

from pytrimode.formats.reasoning import THINK_END

_RULE = re.compile(r"^([\w-]+) ::=", re.MULTILINE)
# Comments, literals and character classes stay as they are.
_PARTS = re.compile(r'#.*|"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|[A-Za-z][\w-]*')
_THINKING = "thinking"


def after_reasoning(grammar: str) -> str:
    """GBNF of any text up to the first end of reasoning, and then what `grammar` allows.

    `grammar`: of this package's making or llama-cpp-python's: each rule on a line of its own, one of them `root`.
    """
    return _up_to_end(r"[\n]? [\n]? answer") + "\n" + renamed(grammar, "answer") + "\n"


def renamed(grammar: str, root: str) -> str:
    """The same rules under names that begin with `root`, which takes the place of the rule `root`."""
    names = {name: root if name == "root" else f"{root}-{name}" for name in _RULE.findall(grammar)}
    return _PARTS.sub(lambda found: names.get(found[0], found[0]), grammar).strip()


def _up_to_end(rest: str) -> str:
    """The rules of an automaton: after `i` characters of the end tag comes the next one, or another one that begins
    anew, for the tag's first character is nowhere else in it. Each goes on at its end, so the parser's stack stays."""
    first = THINK_END[0]
    rules = [f'root ::= [^{first}] root | "{first}" {_THINKING}-1']
    for i in range(1, len(THINK_END)):
        char = THINK_END[i]
        goes_on = f"{_THINKING}-{i + 1}" if i + 1 < len(THINK_END) else rest
        rules.append(f'{_THINKING}-{i} ::= [^{char}{first}] root | "{first}" {_THINKING}-1 | "{char}" {goes_on}')
    return "\n".join(rules)
