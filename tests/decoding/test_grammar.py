"""Under a grammar every answer is complete JSON of its schema. The quick version of benchmarks/grammar_json.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from llama_cpp.llama_grammar import JSON_GBNF, json_schema_to_gbnf
from support.decoding import targets
from support.json_tasks import SCHEMAS, Generation, generations
from support.stock_sampler import StockGrammar, stock_vocab

from pytrimode import TriMode
from pytrimode.formats.response_format import grammar_of
from pytrimode.options.sampling import Sampling

pytestmark = pytest.mark.slow

N = 20
"""Answers of each model: every schema greedy and at a temperature, twice."""


@pytest.fixture(scope="module", params=["q8_gguf", "random_gguf"])
def gguf(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture(scope="module")
def answers(gguf: Path, checkpoint_dir: Path) -> Iterator[list[Generation]]:
    with TriMode(gguf, n_ctx=1024, n_threads=1) as model:
        yield list(generations(model, checkpoint_dir, N, mode="self-spec", block_length=4))


def test_every_answer_parses_and_is_of_its_schema(answers: list[Generation]) -> None:
    assert [answer.fault for answer in answers if answer.fault] == []
    assert {answer.schema for answer in answers} == set(SCHEMAS)
    assert any(answer.drafted > 0 for answer in answers)


def test_drafts_follow_the_grammar(model: TriMode, checkpoint_dir: Path) -> None:
    """Proposals that knew nothing of the grammar gave 0.55 tokens per forward: every draft was refused."""
    made = list(generations(model, checkpoint_dir, N, mode="self-spec", block_length=16))
    assert sum(a.tokens for a in made) / sum(a.forward_passes for a in made) > 1.5


NAMED = 'a "b"\n'
AWKWARD: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "string of a length": {"type": "string", "minLength": 20, "maxLength": 60},
    "any character": {"type": "string", "pattern": "^.{20,60}$"},
    "any but one": {"type": "string", "pattern": "^[^x]{20,60}$"},
    "literals to escape": {"enum": ['a "b"', "c\nd", "\\e", "é"]},
    "name to escape": {"type": "object", "properties": {NAMED: {"type": "null"}}, "required": [NAMED]},
}


@pytest.mark.parametrize("schema", AWKWARD.values(), ids=[name.replace(" ", "-") for name in AWKWARD])
def test_json_parses_although_control_characters_are_wanted(random_gguf: Path, schema: dict[str, Any]) -> None:
    """In a JSON string they stand with a backslash only, as quotes and backslashes do (RFC 8259)."""
    with TriMode(random_gguf, n_ctx=256, n_threads=1) as model:
        pieces = [model.detokenize([token]) for token in range(model.n_vocab)]
        wanted = {token: 12.0 for token, piece in enumerate(pieces) if any(b < 32 or b in b'"\\' for b in piece)}
        for seed in range(6):
            result: Any = model.create_completion(
                "Hello", max_tokens=120, seed=seed, temperature=1.0, logit_bias=wanted,
                grammar=grammar_of({"type": "json_object", "schema": schema}),
            )  # fmt: skip
            text = result["choices"][0]["text"]
            assert not any(char < " " for char in text)
            if result["choices"][0]["finish_reason"] == "stop":
                json.loads(text)


def is_cut(text: bytes) -> bool:
    """Whether a text ends within a character."""
    return text.decode(errors="ignore") != text.decode(errors="replace")


GRAMMARS = {
    "JSON": JSON_GBNF,
    "records": json_schema_to_gbnf(json.dumps({"type": "array", "items": SCHEMAS["flat"], "minItems": 3})),
    "a repetition that must end early": 'root ::= [a-z]+ "x" root | "y" root | "."',
    "a longer word where the shorter one goes on": 'root ::= ("ab" | "a") rest\nrest ::= "bc" root | "d"',
    "sums": 'root ::= term ("+" root)?\nterm ::= [0-9]+ | "(" root ")"',
    "words": 'root ::= word (" " word)*\nword ::= [a-zA-Z]+ | [À-ÿ一-龥あ-ん]+ # of one kind',
    "parts of characters": 'root ::= ([🌀-🗿é] | "\\u00fc")+ "."',
    "tokens": 'root ::= ("a" <[12]> | [=-Z]){5} <[13]>',
    "anything": "root ::= [^\\x00]*",
}


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=[name.replace(" ", "-") for name in GRAMMARS])
@pytest.mark.parametrize("name", ["q8_gguf", "random_gguf"])
def test_all_that_llama_cpp_allows_is_in_the_target(name: str, grammar: str, request: pytest.FixtureRequest) -> None:
    """The whole vocabulary, asked about by common beginnings, against each token asked about by itself."""
    gguf: Path = request.getfixturevalue(name)
    with (
        TriMode(gguf, n_ctx=256, n_threads=1) as model,
        stock_vocab(gguf) as vocab,
        closing(StockGrammar(vocab, grammar)) as stock,
    ):
        sampling = Sampling(temperature=3.0, top_k=0, top_p=1.0, min_p=0.0, seed=1, grammar=grammar)
        tokens, found = targets(model, model.prompt_tokens("Hello"), sampling, max_tokens=40, mode="ar")
        assert len(tokens) > 2
        # llama.cpp spells control tokens out and takes them for text, and bytes that begin no character for one.
        pieces = {t: model.detokenize([t]) for t in range(model.n_vocab) if not model.is_eog(t)}
        controls = {t for t, piece in pieces.items() if not piece or piece[0] >= 0xF5}
        named = {int(number) for number in re.findall(r"<\[(\d+)\]>", grammar)}
        text = b""
        for token, target in zip(tokens, found, strict=True):
            allowed = {t for t in stock.allowed() if t not in controls or t in named}
            # It lets a text end within a character.
            assert set(target) == ({t for t in allowed if not model.is_eog(t)} if is_cut(text) else allowed)
            stock.accept(token)
            text += model.detokenize([token], special=True)


@pytest.mark.parametrize(
    ("grammar", "allowed"),
    [
        ('root ::= "<" <[13]>', {"<"}),  # 13 is </think>: "<", and then itself
        ('root ::= "<" <[13]> | </think>', {"<", "</think>"}),
        ('root ::= "f" !<[13]>', {"f"}),  # any longer token that begins with f: "f", and then not 13
    ],
)
def test_a_token_is_not_allowed_from_its_middle_on(model: TriMode, grammar: str, allowed: set[str]) -> None:
    """llama.cpp takes a token for one that a grammar names when part of its text is used up, then refuses it."""
    sampling = Sampling(temperature=3.0, top_k=0, top_p=1.0, min_p=0.0, seed=1, grammar=grammar)
    _, (target,) = targets(model, model.prompt_tokens("Hello"), sampling, max_tokens=1, mode="ar")
    assert {model.detokenize([token], special=True).decode() for token in target} == allowed


@pytest.mark.parametrize("top_k", [0, 40])
@pytest.mark.parametrize("mode", ["ar", "self-spec"])
def test_every_text_of_a_grammar_that_names_tokens_matches_it(model: TriMode, mode: str, top_k: int) -> None:
    grammar = 'root ::= ("a" <[12]> | [<-Z]){5} <[13]>'
    for seed in range(40):
        sampling: dict[str, Any] = {"temperature": 3.0, "top_k": top_k, "top_p": 1.0, "min_p": 0.0, "seed": seed}
        tokens = model.generate(model.prompt_tokens("Hello"), grammar=grammar, max_tokens=40, mode=mode, **sampling)
        text = model.detokenize(list(tokens), special=True).decode()
        assert re.fullmatch(r"(?:a<think>|[<-Z]){5}</think>(?:<\|im_end\|>|</s>)", text), text


def test_ar_and_self_spec_agree_under_a_grammar(gguf: Path, checkpoint_dir: Path) -> None:
    """Greedy and coupled, every schema once."""
    with TriMode(gguf, n_ctx=1024, n_threads=1) as model:
        texts = [
            [a.text for a in generations(model, checkpoint_dir, 2 * len(SCHEMAS), mode=mode, sampler="coupled")]
            for mode in ("ar", "self-spec")
        ]
    assert texts[0] == texts[1]


JSON_OBJECT = {"type": "json_object", "schema": SCHEMAS[next(iter(SCHEMAS))]}
QUESTION = [{"role": "user", "content": "Sort these numbers: 52, 31, 97"}]


@pytest.mark.parametrize("mode", ["ar", "self-spec"])
@pytest.mark.parametrize("budget", [None, 0, 1, 5])
def test_a_response_format_leaves_the_reasoning_alone(model: TriMode, mode: str, budget: int | None) -> None:
    options: dict[str, Any] = {"mode": mode, "temperature": 0.0, "enable_thinking": True, "max_thinking_tokens": budget}
    free: Any = model.create_chat_completion(QUESTION, max_tokens=120, **options)
    held: Any = model.create_chat_completion(QUESTION, response_format=JSON_OBJECT, max_tokens=400, **options)
    free_message, message = free["choices"][0]["message"], held["choices"][0]["message"]
    assert message.get("reasoning_content") == free_message.get("reasoning_content")
    assert held["choices"][0]["finish_reason"] == "stop"
    json.loads(message["content"])


def test_a_grammar_that_forbids_the_end_of_reasoning_says_so(model: TriMode) -> None:
    with pytest.raises(RuntimeError, match="grammar: it does not allow the token"):
        model.create_completion("<think>", grammar="root ::= [a-z ]+", max_thinking_tokens=3, temperature=0.0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_middle_of_an_infill_has_a_grammar_too(model: TriMode, temperature: float) -> None:
    """It ends where the grammar does; or where its room does, as every answer."""
    for n, reason in ((12, "stop"), (2, "length")):
        made: Any = model.create_completion(
            "Sort: ", suffix=" is sorted.", grammar="root ::= [0-9] [0-9] [a-c] [a-c] [a-c]", max_tokens=n,
            temperature=temperature, seed=3,
        )  # fmt: skip
        (choice,) = made["choices"]
        assert choice["finish_reason"] == reason
        assert bool(re.fullmatch("[0-9]{2}[a-c]{3}", choice["text"])) == (reason == "stop")
        assert re.match("[0-9]", choice["text"])
