"""What clients ask an answer to be: every keyword of a schema is kept, or refused by its name; nothing takes long."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.byte_matcher import ByteMatcher

from pytrimode.formats.constraint import of_choices, of_grammar, of_regex, of_schema

OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}}
POINTER = {"$defs": {"P": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}
NODE = {
    "type": "object", "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["v"], "additionalProperties": False,
}  # fmt: skip
KEPT: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "minimum": ({"type": "integer", "minimum": 3, "maximum": 12}, [3, 12], [2, 13, -3, 100]),
    "exclusive": ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0.5], [0, 1, 1.5, -0.1]),
    "multipleOf": ({"type": "integer", "multipleOf": 7}, [0, 7, 700], [1, 8, 701]),
    "enum beside a type list": ({"type": ["string", "null"], "enum": ["a", None, 3]}, ["a", None], ["b", 3]),
    "properties beside anyOf": (
        {**OBJECT, "required": ["a"], "anyOf": [{"properties": {"b": {"const": 1}}, "required": ["b"]}]},
        [{"b": 1, "a": 1}], [{"b": 1}, {"a": 1}, {"b": 2, "a": 1}, {"a": 1, "b": 2}],
    ),
    "allOf of a reference": ({**POINTER, "allOf": [{"$ref": "#/$defs/P"}]}, [{"x": 1}], [{}, {"x": "a"}]),
    "patternProperties": (
        {"type": "object", "patternProperties": {"^a": {"type": "integer"}}}, [{"ab": 1}], [{"ab": "c"}],
    ),
    "minProperties": ({"type": "object", "minProperties": 1}, [{"x": 1}], [{}]),
    "maxProperties": ({"type": "object", "maxProperties": 1}, [{}, {"x": 1}], [{"x": 1, "y": 2}]),
    "optional beside additional": (
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
        [{}, {"a": 1}, {"b": "c"}, {"a": 1, "b": "c"}], [{"a": "x"}, {"b": 1}],
    ),
    "pattern": ({"type": "string", "pattern": "^cat$|^dog$"}, ["cat", "dog"], ["cats", "a dog", ""]),
    "pattern with classes": ({"type": "string", "pattern": r"^\d+\s\w+$"}, ["12 ab"], ["a b", "12ab"]),
    "pattern with quotes": ({"type": "string", "pattern": '^"[^"]*"$'}, ['"a"'], ["a"]),
    "maxLength": ({"type": "string", "maxLength": 1500}, ["a" * 1500], ["a" * 1501]),
    "minLength": ({"type": "string", "minLength": 2}, ["ab", "é\n"], ["a", ""]),
    "format": ({"type": "string", "format": "date"}, ["2026-11-27"], ["27.11.2026"]),
    "items": (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        [[1], [1, 2]], [[], [1, 2, 3], ["a"]],
    ),
    "prefixItems": (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}, [[1, "a"]], [["a", 1]],
    ),
    "a tuple of draft 7": ({"type": "array", "items": [{"type": "integer"}]}, [[1]], [["a"]]),
    "additionalProperties": ({**OBJECT, "additionalProperties": False}, [{}, {"a": 1}], [{"b": 1}]),
    "a reference to itself": (NODE, [{"v": 1, "next": {"v": 2, "next": None}}], [{"v": 1, "next": {"next": None}}]),
    "const": ({"const": {"a": [1, "b\\\"\n"]}}, [{"a": [1, "b\\\"\n"]}], [{"a": [1]}]),
    "anything": ({}, [1, "a", None, True, [], {}, {"a": [1.5e3]}], []),
    "true": (True, [1, "a", {}], []),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_a_keyword_is_kept(name: str) -> None:
    schema, valid, invalid = KEPT[name]
    matcher = ByteMatcher(of_schema(schema, "response_format"))
    for value in valid:
        assert matcher.accepts(json.dumps(value, ensure_ascii=False)), value
    for value in invalid:
        assert not matcher.accepts(json.dumps(value, ensure_ascii=False)), value


REFUSED = {
    "uniqueItems": {"type": "array", "uniqueItems": True},
    "contains": {"type": "array", "contains": {"type": "integer"}},
    "if": {"if": {"type": "integer"}, "then": {"minimum": 3}},
    "not": {"not": {"type": "integer"}},
    "unevaluatedProperties": {**OBJECT, "unevaluatedProperties": False},
    "dependentRequired": {"type": "object", "dependentRequired": {"a": ["b"]}},
    "propertyNames": {"type": "object", "propertyNames": {"maxLength": 3}},
    "oneOf": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    "look-around": {"type": "string", "pattern": "(?=a)b"},
    "format": {"type": "string", "format": "unheard-of"},
    "schema false": False,
    "x-guidance": {"x-guidance": {"lenient": True}, "uniqueItems": True},
    "striing": {"type": "striing"},
    "/nope": {"$ref": "#/nope"},
    "object, true or false": "integer",
    "unexpected end of hex escape": {"const": "\ud800"},
}


@pytest.mark.parametrize("named", REFUSED)
def test_what_cannot_be_kept_is_refused_by_name(named: str) -> None:
    with pytest.raises(ValueError, match=f"^response_format: .*{re.escape(named)}"):
        of_schema(REFUSED[named], "response_format")


def nested(depth: int) -> Any:
    schema: Any = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


HOSTILE: dict[str, Any] = {
    "maxLength": {"type": "string", "maxLength": 160_000},
    "repetition": {"type": "string", "pattern": "^a{1000000000}$"},
    "minItems": {"type": "array", "minItems": 10**7},
    "multipleOf": {"type": "integer", "multipleOf": 999_983},
    "nested": nested(100_000),
    "a product": {
        "allOf": [{"anyOf": [{"properties": {f"{i}-{j}": {}}} for j in range(9)]} for i in range(12)]
    },
    "many references": {
        "$defs": {str(i): {"allOf": [{"$ref": f"#/$defs/{i + 1}"}] * 2} for i in range(60)} | {"60": {}},
        "$ref": "#/$defs/0",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_schema_takes_long(name: str) -> None:
    """Refused or not: within the limits of a process of its own, which is there again afterwards."""
    begin = time.process_time()
    try:
        of_schema(HOSTILE[name], "response_format")
    except ValueError as error:
        assert str(error).startswith("response_format: ")
    assert time.process_time() - begin < 2.0
    of_schema({"maxLength": len(name) + 1}, "response_format")


GRAMMARS = {
    "a range the wrong way round": ('root ::= "a"{5,2}', "at least 5 and at most 2 times in line 1"),
    "no rule": ("root ::= other", "no rule other"),
    "no root": ('other ::= "a"', "no rule root"),
    "an open class": ("root ::= [a", "the end of a text or of a class"),
    "a surrogate": ('root ::= "\ud800"', "characters that no text has"),
    "an escaped surrogate": ('root ::= "\\ud800"', "U+D800 is no character"),
    "an unknown token": ("root ::= <|nowhere|>", "<|nowhere|> is no token"),
    "a long repetition": ('root ::= "a"{1000000000}', "a repetition is too long"),
    "deep groups": ("root ::= " + "(" * 300 + '"a"' + ")*" * 300, "nested more than 100 deep"),
    "deep rules": (
        "root ::= r0 | root root\n" + "\n".join(f'r{i} ::= r{i + 1} | "a" r0' for i in range(2000)) + '\nr2000 ::= "a"',
        "",
    ),
    "doubled rules": (
        "root ::= r0\n" + "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(60)) + '\nr60 ::= "a"',
        "",
    ),
    "Lark": ("%llguidance {}\nstart: nowhere", "nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_grammar_is_refused_with_the_reason(name: str) -> None:
    text, reason = GRAMMARS[name]
    with pytest.raises(ValueError, match=f"^grammar: cannot be parsed: .*{re.escape(reason)}"):
        of_grammar(text, lambda _: -1)


def words(alphabet: str, longest: int) -> Iterator[str]:
    for length in range(longest + 1):
        yield from map("".join, itertools.product(alphabet, repeat=length))


RECURSIVE: dict[str, tuple[str, str, str]] = {
    "a shorter match must do": ('root ::= [a-c]+ "c" root | "d"', "abcd", r"(?:[a-c]+c)*d"),
    "a longer word, or the shorter one": ('root ::= ("ab" | "a") rest\nrest ::= "bc" root? | "d"', "abcd", ""),
    "brackets": ('root ::= "a" root? "b" | "ab" "c"*', "abc", ""),
    "left": ('root ::= root "b" | "a" | "ab"', "ab", r"(?:a|ab)b*"),
    "optional tail": ('root ::= ("a" [bc]* root)?', "abc", r"(?:a[bc]*)*"),
    "sums": ('root ::= sum\nsum ::= sum "a" term | term\nterm ::= "b"+ | "c" sum "d"', "abcd", ""),
    "alike in several places": (
        'root ::= "a" x "b" root | y\nx ::= [ab]{1,2}\ny ::= [ab] "c"', "abc", r"(?:a[ab]{1,2}b)*[ab]c",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECURSIVE)
def test_gbnf_has_the_same_texts(name: str) -> None:
    """Against a recognizer that tries everything."""
    grammar, alphabet, regex = RECURSIVE[name]
    matcher = ByteMatcher(of_grammar(grammar, lambda _: -1))
    found = {word for word in words(alphabet, 6) if matcher.accepts(word)}
    assert found
    if regex:
        assert found == {word for word in words(alphabet, 6) if re.fullmatch(regex, word)}
    else:
        assert found == texts(grammar, alphabet, 6)


def texts(grammar: str, alphabet: str, longest: int) -> set[str]:
    """All texts of a grammar up to a length, from its tree: sets of texts, until they no longer grow."""
    from pytrimode.formats import gbnf

    rules = gbnf.parse(grammar, lambda _: -1)
    known: dict[str, set[str]] = {name: set() for name in rules}

    def join(a: set[str], b: set[str]) -> set[str]:
        return {x + y for x in a for y in b if len(x) + len(y) <= longest}

    def of(node: Any) -> set[str]:
        if isinstance(node, gbnf.Chars):
            return {char for char in alphabet if any(low <= ord(char) <= high for low, high in node.chars)}
        if isinstance(node, gbnf.Ref):
            return known[node.name]
        if isinstance(node, gbnf.Alt):
            return set().union(*map(of, node.items))
        found, one = {""}, set[str]()
        if isinstance(node, gbnf.Seq):
            for item in node.items:
                found = join(found, of(item))
            return found
        one, result = of(node.item), set[str]()
        for times in range(min(longest, node.most if node.most is not None else longest) + 1):
            result |= found if times >= node.least else set()
            found = join(found, one)
        return result

    while True:
        now = {name: of(node) for name, node in rules.items()}
        if now == known:
            return known["root"]
        known = now


def test_choices_and_regular_expressions() -> None:
    chosen = ByteMatcher(of_choices(["yes", 'no "x"\n', "é"], "guided_choice"))
    assert [text for text in ("yes", 'no "x"\n', "é", "ye", "no") if chosen.accepts(text)] == ["yes", 'no "x"\n', "é"]
    found = ByteMatcher(of_regex(r"\d+/[a-z]*", "guided_regex"))
    assert [text for text in ("1/", "12/ab", "/ab", "1/A") if found.accepts(text)] == ["1/", "12/ab"]
    for make in (lambda: of_regex("(", "guided_regex"), lambda: of_choices([], "guided_choice")):
        with pytest.raises(ValueError, match=r"^guided_"):
            make()


CLOSED: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "named alone": (OBJECT, [{}, {"a": 1}], [{"b": 1}, {"a": 1, "b": 1}]),
    "none named": ({"type": "object", "properties": {}}, [{}], [{"b": 1}]),
    "nothing said": ({"type": "object"}, [{}, {"b": 1}], []),
    "open": ({**OBJECT, "additionalProperties": True}, [{"a": 1, "b": 1}], []),
    "within": ({"type": "array", "items": OBJECT}, [[{"a": 1}]], [[{"b": 1}]]),
    "joined": ({"allOf": [OBJECT, {"required": ["b"]}]}, [{"a": 1, "b": 1}], [{"a": 1}]),
    "data": ({"const": {"properties": {"a": 1}}}, [{"properties": {"a": 1}}], []),
    "a property of that name": (
        {"type": "object", "properties": {"properties": {"type": "integer"}}}, [{"properties": 1}], [{"b": 1}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSED)
def test_a_model_adds_no_properties_of_its_own(name: str) -> None:
    schema, valid, invalid = CLOSED[name]
    matcher = ByteMatcher(of_schema(schema, "response_format"))
    assert all(matcher.accepts(json.dumps(value)) for value in valid)
    assert not any(matcher.accepts(json.dumps(value)) for value in invalid)
