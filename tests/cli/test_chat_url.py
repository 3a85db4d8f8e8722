"""`pytrimode chat --url`: the same interface on a server's model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from support.serving import Served, loader, served, until
from support.terminal import COMMAND, PROMPT_IS_UP, TIMEOUT, run

from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

TURNS = ["-p", "Hello", "-p", "How are you?"]
GREEDY = ["-n", 20, "--temp", 0]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ar", "diffusion", "self-spec"])
def test_the_replies_are_those_of_a_model_in_the_process(server: Served, q8_gguf: Path, mode: str) -> None:
    own = run("chat", q8_gguf, "-t", 1, "-m", mode, *TURNS, *GREEDY)
    remote = run("chat", "--url", server.url, "-m", mode, *TURNS, *GREEDY)
    assert remote.returncode == 0 and remote.stdout == own.stdout != ""
    figures = [re.findall(r"[\d.]+ tokens/forward.*", text) for text in (own.stderr, remote.stderr)]
    assert figures[0] == figures[1] and len(figures[0]) == 2


def test_commands(server: Served) -> None:
    turns = ["/system Be brief.", "/mode ar", "Hello", "/reset", "/mode", "/stats"]
    result = run("chat", "--url", f"{server.url}/v1/", *GREEDY, *(part for turn in turns for part in ("-p", turn)))
    assert result.returncode == 0
    assert "mode ar\n" in result.stderr and "replies            1" in result.stderr


def test_options_that_are_not_given_are_the_servers(q8_gguf: Path) -> None:
    defaults = GenerationOptions(mode="ar", sampling=Sampling(temperature=0.0))
    with served(loader(q8_gguf, 512), defaults=defaults, api_keys=("right",)) as running:
        result = run("chat", "--url", running.url, "--api-key", "right", "-p", "Hello")
        assert re.search(r"1\.0\d tokens/forward \(", result.stderr), "one token per pass, nothing drafted"
        refused = run("chat", "--url", running.url, "-p", "Hello")
        assert refused.returncode == 1 and "Invalid API Key (--api-key" in refused.stderr


@pytest.mark.slow
def test_the_oldest_turns_go_when_the_context_is_full(q8_gguf: Path) -> None:
    turns = [part for i in range(5) for part in ("-p", f"question {i}" + " word" * 12)]
    with served(loader(q8_gguf, 128)) as running:
        result = run("chat", "--url", running.url, "-n", 10, *turns)
        assert result.returncode == 0 and result.stderr.count("tokens/s") == 5
        assert re.search(r"\[context full: the (oldest turn was|\d oldest turns were) dropped\]\n", result.stderr)
        long = run("chat", "--url", running.url, "-p", "word " * 400)
        assert long.returncode == 1 and "at most 128 are allowed" in long.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "http://127.0.0.1:9", "-p", "x"], "no server answers at 127.0.0.1:9"),
        (["--url", "ftp://x", "-p", "x"], "no address of a server"),
        (["--url", "http://:8080", "-p", "x"], "no address of a server"),
        (["--url", "http://[", "-p", "x"], "no server answers at"),
        (["--url", "http://127.0.0.1:99999", "-p", "x"], "no address of a server"),
        (["--url", "{}", "-c", "64", "-p", "x"], "-c is for a model in this process"),
        (["--url", "{}", "-p", "/save x"], "does not work with --url"),
        (["--url", "{}", "-p", "/mode quick"], "unknown mode 'quick'"),
        (["--url", "{}", "--mode", "quick", "-p", "x"], "unknown mode 'quick'"),
    ],
)
def test_mistakes_are_explained_in_a_line(server: Served, arguments: list[str], message: str) -> None:
    result = run("chat", *(argument.format(server.url) for argument in arguments))
    assert result.returncode != 0 and message in result.stderr and "Traceback" not in result.stderr


@pytest.fixture
def endless(q8_gguf: Path) -> Iterator[Served]:
    """A server whose answers go on until they are stopped."""
    defaults = GenerationOptions(ignore_eos=True, loop_window=0, sampling=Sampling(temperature=0.0))
    with served(loader(q8_gguf, 16384), defaults=defaults) as running:
        yield running


@pytest.mark.slow
def test_a_terminal_shows_the_block_and_ctrl_c_frees_the_slot(endless: Served) -> None:
    arguments = [*COMMAND[1:], "chat", "--url", endless.url, "-m", "diffusion", "--threshold", "1.0"]
    child = pexpect.spawn(COMMAND[0], arguments, encoding="utf-8", timeout=TIMEOUT, dimensions=(40, 200))
    child.delaybeforesend = 0.2
    child.expect(r"mode diffusion, context 16384\. /help lists the commands")
    child.expect(PROMPT_IS_UP)
    child.send("Hello\r")
    child.expect("▒")
    child.sendintr()
    child.expect(r"\[stopped\]")
    child.expect(PROMPT_IS_UP)
    until(lambda: not endless.get("/slots").json()[0]["is_processing"])
    child.send("/quit\r")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
