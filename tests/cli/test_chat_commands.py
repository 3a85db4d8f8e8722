"""The chat's commands, in scripts and on a terminal; what is kept of it; Markdown."""

from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path
from typing import Any

import pexpect
import pytest
from rich.console import Console
from support.serving import Served
from support.terminal import COMMAND, PROMPT_IS_GONE, PROMPT_IS_UP, TIMEOUT, run

from pytrimode import TriMode
from pytrimode.cli.chat_options import chat_options, parse_setting
from pytrimode.cli.conversation import Part
from pytrimode.cli.markdown_view import Drafts, finished_blocks, markdown
from pytrimode.cli.turns import given_turns

OPTIONS = ["-t", 1, "-c", 1024, "-n", 12, "--temp", 0]


def script(*turns: str, options: list[object] = OPTIONS, source: list[object]) -> Any:
    return run("chat", *source, *options, *(part for turn in turns for part in ("-p", turn)))


def answers(model: TriMode, *questions: str, **options: Any) -> list[str]:
    messages: list[dict[str, str]] = []
    for question in questions:
        messages.append({"role": "user", "content": question})
        result: Any = model.create_chat_completion(messages, **{"max_tokens": 12, "temperature": 0.0, **options})
        messages.append({"role": "assistant", "content": result["choices"][0]["message"]["content"]})
    return [message["content"] for message in messages if message["role"] == "assistant"]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["process", "server"])
def test_turns_are_taken_back_asked_again_and_changed(
    q8_gguf: Path, model: TriMode, server: Served, where: str
) -> None:
    source: list[object] = [q8_gguf] if where == "process" else ["--url", server.url]
    options = OPTIONS if where == "process" else ["-n", 12, "--temp", 0]
    turns = [
        "Hello",
        "What is 3 plus 4?",
        "/regen",
        "/undo",
        "/edit How are you?",
        "/set max-tokens 3",
        "Hello",
        "/show",
    ]
    result = script(*turns, options=options, source=source)
    assert result.returncode == 0, result.stderr
    first, second = answers(model, "Hello", "What is 3 plus 4?")
    (edited,) = answers(model, "How are you?")
    short = result.stdout.splitlines()[-1]
    assert result.stdout == "".join(f"{text}\n" for text in (first, second, second, edited, short))
    assert len(short) < len(first), "/set max-tokens 3"
    assert "taken back; 1 turn left" in result.stderr and re.search(r"^  max-tokens +3$", result.stderr, re.MULTILINE)


@pytest.mark.slow
def test_a_file_goes_in_front_of_a_turn(q8_gguf: Path, model: TriMode, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("12, 5, 9\n")
    result = script(f"/read {note}", "Sort these numbers.", source=[q8_gguf])
    assert result.stdout.splitlines() == answers(model, f"{note}:\n```\n12, 5, 9\n```\n\nSort these numbers.")
    assert "8 characters; go with the next turn" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/undo", "there is no turn yet"),
        ("/regen", "there is no turn yet"),
        ("/copy", "there is no answer yet"),
        ("/read", "/read needs the name of a file"),
        ("/read /none", "/none: No such file"),
        ("/think", "/think needs on or off"),
        ("/set tmep 1", "no option 'tmep': did you mean temp"),
        ("/set temp", "/set temp needs a value"),
        ("/set temp hot", "a number is needed"),
        ("/set top-p 3", "must be between 0 and 1"),
        ("/set fused maybe", "must be one of on, off, auto"),
    ],
)
def test_mistakes_are_explained_in_a_line(q8_gguf: Path, line: str, message: str) -> None:
    result = script(line, source=[q8_gguf])
    said = result.stderr.removeprefix(f"> {line}\n")
    assert result.returncode == 1 and said.startswith("error: ") and message in said and said.count("\n") == 1


def test_settings_are_read_as_flags_are() -> None:
    assert parse_setting("temp 0.5")[2] == 0.5
    assert parse_setting("temperature 0.5")[0] == parse_setting("--temp 1")[0] == "temp"
    assert parse_setting("fused on")[2] is True and parse_setting("fused default")[2] is None
    assert parse_setting("top_k 3")[2] == 3 and parse_setting("mode dlm")[2] == "dlm"
    assert {"mode", "temp", "max-tokens", "seed", "ngram"} <= set(chat_options())


def test_lines_between_quotes_are_one_turn(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["one\n", '"""two\n', "\n", 'three"""\n', '"""four"""\n', '"""\n', "five\n", '"""\n', '"""open']
    assert list(given_turns(lines)) == ["one", "two\n\nthree", "four", "five", '"""open']
    assert capsys.readouterr().out == ""


# --- On a terminal ---------------------------------------------------------------------------------------------------


def spawn(gguf: Path, *options: object) -> pexpect.spawn:
    arguments = [*COMMAND[1:], "chat", gguf, "-t", 1, "-c", 1024, "-n", 20, "--temp", 0, *options]
    child = pexpect.spawn(
        COMMAND[0], [str(part) for part in arguments], encoding="utf-8", timeout=TIMEOUT, dimensions=(40, 100)
    )
    child.delaybeforesend = 0.2
    return child


def say(child: pexpect.spawn, line: str, expected: str) -> str:
    child.expect(PROMPT_IS_UP)
    child.send(line + "\r")
    child.expect(PROMPT_IS_GONE)
    child.expect(expected)
    return str(child.before) + str(child.after)


@pytest.mark.slow
def test_a_chat_is_kept_and_gone_on_with(q8_gguf: Path, model: TriMode) -> None:
    child = spawn(q8_gguf)
    say(child, "Hello", "tokens/s")
    answer = answers(model, "Hello", max_tokens=20)[0]
    copied = say(child, "/copy", "characters copied")
    assert base64.b64encode(answer.encode()).decode() in copied
    child.kill(9)  # as when the window is closed
    (kept,) = Path(os.environ["XDG_STATE_HOME"], "pytrimode", "chats").iterdir()
    assert kept.stat().st_size < 100_000, "without the cache"
    again = spawn(q8_gguf, "--continue")
    again.expect(f"{kept}: 1 turns")
    say(again, "/undo", "taken back; 0 turns left")
    again.kill(9)
    private = spawn(q8_gguf, "--no-autosave")
    say(private, "Hello", "tokens/s")
    private.kill(9)
    assert [kept] == list(kept.parent.iterdir())


@pytest.mark.slow
def test_edit_puts_the_question_before_the_user(q8_gguf: Path) -> None:
    child = spawn(q8_gguf, "--no-autosave")
    say(child, "What is 3 plus", "tokens/s")
    say(child, "/edit", "edit your last question")
    say(child, " 4?", "tokens/s")
    assert "1 turn so far" in say(child, "/show", "/set changes these")
    history = Path(os.environ["XDG_STATE_HOME"], "pytrimode", "chat_history").read_text()
    assert "+What is 3 plus 4?\n" in history
    child.kill(9)


@pytest.mark.slow
def test_plain_where_that_was_asked_for(q8_gguf: Path) -> None:
    child = spawn(q8_gguf, "--no-markdown", "--no-autosave")
    said = say(child, "Hello", "tokens/s")
    assert "drafted" not in said and "Hello" in said
    child.kill(9)


# --- Markdown --------------------------------------------------------------------------------------------------------


def rendered(text: str, width: int = 40) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(markdown(text))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def test_markdown_loses_nothing_of_the_text() -> None:
    assert rendered("first\nsecond") == "first\nsecond", "a line stays a line"
    assert rendered("a <b>tag</b>\n\n<div>block</div>") == "a <b>tag</b>\n\n<div>block</div>"
    assert "https://example.com" in rendered("[link](https://example.com)")
    assert "return x" in rendered("```python\nreturn x\n```") and "```" not in rendered("```\nx\n```")
    words = "These words are longer than one line of it is wide"
    wrapped = rendered(words, 20)
    assert all(len(line) <= 20 for line in wrapped.splitlines())
    assert wrapped.split() == words.split(), "no word is broken"


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("one", ""),
        ("one\n\ntwo", "one\n\n"),
        ("```\na\n\nb", ""),
        ("```\na\n\nb\n```\n\nend", "```\na\n\nb\n```\n\n"),
        ("````\n```\n\n````\n\nend", "````\n```\n\n````\n\n"),
        ("~~~\n```\n\n", ""),
    ],
)
def test_blocks_are_finished_outside_of_code(text: str, finished: str) -> None:
    assert text[: finished_blocks(text)] == finished


def test_drafts_are_counted_when_they_are_verified() -> None:
    drafts = Drafts()
    drafts.add(Part("", draft=["a", "b", "c"]))
    assert drafts.line() is None
    drafts.add(Part("ab", draft=["d"], accepted=2))
    line = drafts.line()
    assert line is not None and line.plain == "drafted 3, accepted 2, rejected 1  abc"
    drafts.add(Part("d", accepted=1))
    assert (drafts.drafted, drafts.accepted) == (4, 3)
