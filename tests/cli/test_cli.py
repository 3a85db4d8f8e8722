"""The commands as a user runs them: in a process of their own, through pipes and on a terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pexpect
import pytest
from support.terminal import COMMAND, PROMPT_IS_GONE, PROMPT_IS_UP, TIMEOUT, run

from pytrimode import TriMode

PROMPT = "Write a Python function called add_two"
FAST = ["-t", "1", "-c", "512", "--temp", "0"]
ESCAPE = "\x1b"

# --- generate --------------------------------------------------------------------------------------------------------


def test_generate_prints_the_completion_and_figures_apart(q8_gguf: Path, model: TriMode) -> None:
    expected: Any = model.create_completion(PROMPT, max_tokens=20, temperature=0.0)
    result = run("generate", q8_gguf, "-p", PROMPT, "-n", 20, "--mode", "self-spec", *FAST)
    assert result.returncode == 0
    assert result.stdout == expected["choices"][0]["text"]
    assert re.search(r"[\d.]+ tokens/s, [\d.]+ tokens/forward, .* \(\d+ tokens in \d+ passes\)", result.stderr)
    assert ESCAPE not in result.stdout + result.stderr


@pytest.mark.slow
def test_generate_reads_the_prompt_from_a_file_or_a_pipe(q8_gguf: Path, tmp_path: Path) -> None:
    options = [q8_gguf, "-n", 8, *FAST]
    (tmp_path / "prompt.txt").write_text(PROMPT)
    texts = {
        run("generate", "-p", PROMPT, *options).stdout,
        run("generate", "-f", tmp_path / "prompt.txt", *options).stdout,
        run("generate", "-f", "-", *options, stdin=PROMPT).stdout,
        run("generate", *options, stdin=PROMPT).stdout,
    }
    assert len(texts) == 1 and texts.pop()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ar", "diffusion", "dlm", "self-spec", "auto"])
def test_generate_json_is_the_result_dictionary(q8_gguf: Path, model: TriMode, mode: str) -> None:
    result = json.loads(run("generate", q8_gguf, "-p", "Hello", "--chat", "--json", "-m", mode, "-n", 9, *FAST).stdout)
    expected: Any = model.create_chat_completion(
        [{"role": "user", "content": "Hello"}], mode=mode, max_tokens=9, temperature=0.0
    )
    assert result["object"] == "chat.completion"
    assert result["choices"] == expected["choices"]
    assert set(result["timings"]) == set(expected["timings"])


def test_generate_stops_at_a_stop_string(q8_gguf: Path) -> None:
    prompt = "Write a class Car with name and speed."
    whole = run("generate", q8_gguf, "--chat", "-p", prompt, "-n", 20, *FAST).stdout
    stop = whole[5:8]
    assert len(stop) == 3
    result = run("generate", q8_gguf, "--chat", "-p", prompt, "-n", 20, "--stop", stop, *FAST)
    assert result.stdout == whole[: whole.index(stop)] and "[stop]" in result.stderr


@pytest.mark.parametrize("mode", ["ar", "diffusion"])
def test_ctrl_c_ends_generate(random_gguf: Path, mode: str) -> None:
    arguments = ["-m", "pytrimode", "generate", str(random_gguf), "-p", "a", "-m", mode, *FAST]
    child = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=TIMEOUT)
    child.expect(r"\w{3}")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert "Traceback" not in child.before and child.exitstatus == 130


def test_generate_ends_quietly_when_the_reader_leaves(random_gguf: Path) -> None:
    command = [*COMMAND, "generate", str(random_gguf), "-p", "a", "-n", "300", *FAST]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.read(1)
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


# --- chat ------------------------------------------------------------------------------------------------------------


def test_piped_chat_answers_line_by_line(q8_gguf: Path, model: TriMode) -> None:
    result = run("chat", q8_gguf, "-n", 12, *FAST, stdin="Hello\n\n/mode ar\nHow are you?\n/stats\n")
    assert result.returncode == 0
    messages = [{"role": "user", "content": "Hello"}]
    first: Any = model.create_chat_completion(messages, max_tokens=12, temperature=0.0)
    messages += [first["choices"][0]["message"], {"role": "user", "content": "How are you?"}]
    second: Any = model.create_chat_completion(messages, max_tokens=12, temperature=0.0)
    answers = [r["choices"][0]["message"]["content"] for r in (first, second)]
    assert result.stdout == f"{answers[0]}\n{answers[1]}\n", "answers and nothing else"
    assert "> Hello\n" in result.stderr and "> How are you?\n" in result.stderr
    assert "mode ar\n" in result.stderr and "replies            2" in result.stderr
    assert ESCAPE not in result.stdout + result.stderr


def test_scripted_chat_takes_its_turns_from_the_command_line(q8_gguf: Path) -> None:
    result = run("chat", q8_gguf, "-p", "Hello", "-p", "Thanks", "--system", "Be brief.", "-n", 8, *FAST)
    assert result.returncode == 0
    assert result.stderr.startswith("> Hello\n") and "\n> Thanks\n" in result.stderr and ">" not in result.stdout
    once = run("chat", q8_gguf, "-p", "Hello", "-p", "Thanks", "-st", "--system", "Be brief.", "-n", 8, *FAST)
    assert once.stderr.count("tokens/s") == 1 and result.stdout.startswith(once.stdout)
    assert result.stderr.count("tokens/s") == 2


def test_a_full_context_is_explained(q8_gguf: Path) -> None:
    result = run("chat", q8_gguf, "-c", 32, "-p", "word " * 40)
    assert result.returncode == 1
    said = result.stderr.partition("\n")[2]  # behind the turn
    assert re.fullmatch(r"error: Requested tokens \(\d+\) exceed context window of 32.*\n", said)


def test_a_chat_goes_on_when_the_context_is_full(q8_gguf: Path) -> None:
    turns = [argument for i in range(5) for argument in ("-p", f"question {i}" + " word" * 12)]
    result = run("chat", q8_gguf, "-c", 128, "-t", 1, "-n", 10, *turns)
    assert result.returncode == 0
    assert re.search(r"\[context full: the (oldest turn was|\d oldest turns were) dropped\]\n", result.stderr)
    assert result.stderr.count("tokens/s") == 5 and "context full" not in result.stdout


@pytest.mark.slow
def test_a_saved_chat_goes_on_in_another_process(q8_gguf: Path, tmp_path: Path) -> None:
    saved, options = tmp_path / "my chat", ["-n", 20, "-m", "ar", *FAST]
    whole = run("chat", q8_gguf, "-p", "Hello", "-p", "How are you?", *options)
    first = run("chat", q8_gguf, "-p", "Hello", "-p", f"/save {saved}", *options)
    assert re.search(r"^1 turn saved, \d+ tokens of the cache with it$", first.stderr, re.MULTILINE)
    second = run("chat", q8_gguf, "-p", f"/load {saved}", "-p", "How are you?", *FAST)
    assert re.search(r"^1 turn loaded, mode ar, \d\d+ tokens cached$", second.stderr, re.MULTILINE)
    assert second.stdout and whole.stdout == first.stdout + second.stdout
    other_type = run("chat", q8_gguf, "-p", f"/load {saved}", "-p", "/stats", "-ct", "q8_0", *FAST)
    assert "1 turn loaded, mode ar, the cache is not used: " in other_type.stderr
    for line, message in ((f"/load {q8_gguf}", "not a saved conversation"), ("/load none", "none: No such file"),
                          ("/save", "/save needs the name of a file"),
                          (f"/save {q8_gguf}", "is not a saved conversation")):  # fmt: skip
        result = run("chat", q8_gguf, "-p", line, *FAST)
        said = result.stderr.removeprefix(f"> {line}\n")
        assert result.returncode == 1 and said.startswith("error: ") and message in said
        assert said.count("\n") == 1


class Terminal:
    """A chat on a pseudo-terminal."""

    def __init__(self, gguf: Path, *options: str) -> None:
        arguments = [*COMMAND[1:], "chat", str(gguf), "-t", "1", *options]
        self.child = pexpect.spawn(COMMAND[0], arguments, encoding="utf-8", timeout=TIMEOUT, dimensions=(40, 200))
        self.child.delaybeforesend = 0.2

    def says(self, pattern: str) -> str:
        self.child.expect(pattern)
        return str(self.child.before) + str(self.child.after)

    def type(self, line: str) -> None:
        self.says(PROMPT_IS_UP)
        self.child.send(line + "\r")
        self.says(PROMPT_IS_GONE)


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    gguf = request.getfixturevalue(getattr(request, "param", "q8_gguf"))
    # The random model goes on for as long as it may: long enough for a test that interrupts it.
    tiny = gguf.name.startswith("tiny")
    options = ("-c", "1024", "-n", "40") if tiny else ("-c", "16384", "--no-loop-detection")
    chat = Terminal(gguf, "--temp", "0", *options)
    chat.says("/help lists the commands")
    yield chat
    chat.child.close(force=True)


@pytest.mark.slow
def test_chat_on_a_terminal(terminal: Terminal) -> None:
    terminal.type("Hello")
    assert re.search(
        r"drafted \d+, accepted \d+, rejected \d+", terminal.says(r"\d+ tokens, [\d.]+ tokens/s, .* accepted")
    )
    terminal.type("/help")
    assert "/reset" in terminal.says("Ctrl-C stops a reply")
    terminal.type("/mode dlm")
    terminal.says("mode diffusion")
    terminal.type("How are you?")
    assert "▒" in terminal.says(r"tokens/s, [\d.]+ a pass"), "the block being unmasked is shown"
    terminal.type("/stats")
    terminal.says("replies +2")
    terminal.type("/reset")
    terminal.says("conversation forgotten")
    terminal.type("/wrong")
    terminal.says("error: unknown command /wrong")
    terminal.type("/mode quick")
    terminal.says("error: unknown mode 'quick'")
    terminal.type("/quit")
    terminal.says(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0


@pytest.mark.slow
@pytest.mark.parametrize("terminal", ["random_gguf"], indirect=True)
def test_ctrl_c_stops_the_reply_and_then_leaves(terminal: Terminal) -> None:
    for mode in ("ar", "diffusion", "self-spec"):
        terminal.type(f"/mode {mode}")
        terminal.says(f"mode {mode}")
        terminal.type("go on")
        terminal.says(r"\S{3}")
        terminal.child.sendintr()
        terminal.says(r"\[stopped\]")
        terminal.type("/reset")
        terminal.says("forgotten")
    terminal.says(PROMPT_IS_UP)
    terminal.child.sendintr()
    terminal.says(r"Ctrl-C again, Ctrl-D or /exit leaves")
    terminal.says(PROMPT_IS_UP)
    terminal.child.sendintr()
    terminal.says(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0


def test_turns_of_several_lines_and_history(terminal: Terminal) -> None:
    terminal.type("first\x1b\rsecond\\\rthird")
    terminal.says("tokens/s")
    terminal.type('"""one\rtwo"""')
    terminal.says("tokens/s")
    history = Path(os.environ["XDG_STATE_HOME"], "pytrimode", "chat_history").read_text()
    assert "+first\n+second\n+third\n" in history and '+"""one\n+two"""\n' in history
    terminal.says(PROMPT_IS_UP)
    terminal.child.sendeof()
    terminal.says(pexpect.EOF)


# --- info ------------------------------------------------------------------------------------------------------------


def test_info_tells_what_the_file_is(q8_gguf: Path, model: TriMode) -> None:
    text = run("info", q8_gguf).stdout
    for expected in ("mistral3", "Q8_0 x", "bits per weight", "ar, diffusion, self-spec", f"rank {model.lora_rank}"):
        assert expected in text
    assert ESCAPE not in text
    info = json.loads(run("info", q8_gguf, "--json").stdout)
    assert info["file_bytes"] == q8_gguf.stat().st_size
    assert info["tokenizer"]["mask_token_id"] == model.mask_token_id
    assert info["shape"]["context_length"] == model.n_ctx_train
    assert info["n_params"] == sum(t["params"] for t in info["tensor_types"])
    assert 8 < info["bits_per_weight"] < 9
    adapter = run("info", info["drafter_lora"]["file"]).stdout
    assert "adapter" in adapter


# --- Errors and the shipped model ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_bad_models_are_one_line_errors(q8_gguf: Path, tmp_path: Path, checkpoint_dir: Path) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    (tmp_path / "cut.gguf").write_bytes(q8_gguf.read_bytes()[:-1000])
    (tmp_path / "header.gguf").write_bytes(q8_gguf.read_bytes()[:1000])
    data = q8_gguf.read_bytes()
    (tmp_path / "other.gguf").write_bytes(data.replace(b"mistral3", b"mistralX"))
    for name, message in (
        ("none.gguf", "no such file"),
        ("text.gguf", "not a GGUF file"),
        ("cut.gguf", "cut.gguf"),
        ("header.gguf", "header.gguf"),
        ("", "is a directory"),
    ):
        for command in ("info", "generate"):
            result = run(command, tmp_path / name, *(["-p", "x"] if command != "info" else []))
            assert result.returncode == 1, (command, name)
            assert result.stderr.startswith("error: ") and message in result.stderr
            assert "Traceback" not in result.stderr and result.stderr.count("\n") == 1
    assert re.search(r"tensor \S+ ends at byte \d+, .* truncated", run("info", tmp_path / "cut.gguf").stderr)
    assert "trimode-convert" in run("chat", checkpoint_dir, "-p", "x").stderr
    other = run("generate", tmp_path / "other.gguf", "-p", "x")
    assert other.returncode == 1 and "mistralX" in other.stderr
    assert "architecture mistralX" in run("info", tmp_path / "other.gguf").stdout


@pytest.mark.slow
def test_wrong_usage_is_exit_code_2(q8_gguf: Path) -> None:
    compared = ["bench", "--lora", "x.gguf", "--compare", "llama-cpp-python"]
    others = (["chat", "--nothing"], ["generate", "-p", "a", "-f", "b"], ["chat", "-n", "many"])
    for arguments in (["nothing"], compared, *others):
        assert run(*arguments).returncode == 2
    for arguments in (["--mode", "quick"], ["-ct", "q9"]):
        result = run("generate", q8_gguf, "-p", "x", *arguments)
        assert result.returncode == 1 and result.stderr.startswith("error: ") and arguments[1] in result.stderr


@pytest.mark.parametrize("command", ["chat", "generate"])
def test_input_that_is_not_utf8_and_no_input_at_all(q8_gguf: Path, command: str) -> None:
    ask = [*COMMAND, command, str(q8_gguf), "-n", "4", *FAST]
    done = subprocess.run(ask, input=b"caf\xe9?\n", capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 1 and b"error: the text is not UTF-8: it has '\\udce9'" in done.stderr
    closed = subprocess.run(["bash", "-c", 'exec "$@" <&-', "-", *ask], capture_output=True, timeout=TIMEOUT)
    assert b"Traceback" not in closed.stderr


@pytest.mark.slow
def test_without_model_the_shipped_one_is_converted_once() -> None:
    first, second = (run("generate", "-p", "Hello", "--chat", "-n", 4, *FAST) for _ in range(2))
    assert first.returncode == 0 and "converting trimode-tiny" in first.stderr
    assert second.stdout == first.stdout and "converting" not in second.stderr
    (directory,) = Path(os.environ["XDG_CACHE_HOME"], "pytrimode").glob("*-q8_0")
    assert {f.name for f in directory.iterdir()} == {"trimode-tiny-Q8_0.gguf", "trimode-tiny-Q8_0-drafter-lora.gguf"}


@pytest.mark.slow
def test_version_and_help() -> None:
    assert run("-V").stdout.split()[-1] == version("pytrimode")
    text = run("--help").stdout
    for command in ("chat", "generate", "info"):
        assert command in text
        assert "MODEL" in run(command, "--help").stdout


# --- What a request can ask for ---------------------------------------------------------------------------------------


def test_generate_writes_a_middle(q8_gguf: Path) -> None:
    code = 'def get_total(price, tax):\n    """Return the sum of price and tax."""\n    return '
    result = run("generate", q8_gguf, "-p", code, "--suffix", "\n```", "-n", 4, "--json", *FAST)
    answer = json.loads(result.stdout)
    assert answer["usage"]["completion_tokens"] <= 4
    assert answer["timings"]["acceptance_length"] > 0  # of a block
    refused = run("generate", q8_gguf, "-p", code, "--suffix", "\n", *FAST)
    assert "a suffix needs max_tokens" in refused.stderr


@pytest.mark.slow
def test_generate_reports_logprobs_and_reasoning(q8_gguf: Path) -> None:
    options = ["--json", "-n", 30, *FAST]
    answer = json.loads(run("generate", q8_gguf, "-p", "Hello", "--logprobs", 2, *options).stdout)
    assert all(len(top) == 2 for top in answer["choices"][0]["logprobs"]["top_logprobs"])
    thinking = ["--chat", "--enable-thinking", "--max-thinking-tokens", 3]
    answer = json.loads(run("generate", q8_gguf, "-p", "Sort 3, 1, 2.", *thinking, *options).stdout)
    assert answer["choices"][0]["message"]["reasoning_content"]
    assert "--logprobs needs --json" in run("generate", q8_gguf, "-p", "x", "--logprobs", 2).stderr


def test_generate_ends_a_loop_unless_told_otherwise(random_gguf: Path) -> None:
    # Greedy with a window of 3: three equal tokens are a loop.
    options = ["generate", random_gguf, "-p", "a", "-n", 60, "-m", "diffusion", "--threshold", 0, "--ignore-eos", *FAST]
    assert "[loop]" in run(*options, "--loop-window", 3).stderr
    assert "[length]" in run(*options, "--loop-window", 3, "--no-loop-detection").stderr


def test_a_long_run_of_letters_does_not_end_the_process(q8_gguf: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "generate", str(q8_gguf), *FAST], input="a" * 60_000, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.search(r"Requested tokens \(\d{5}\) exceed context window of 512", done.stderr), done.stderr
