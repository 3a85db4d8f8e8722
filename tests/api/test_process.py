"""The life of a process: a fork, threads at its end, models that are still open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SECONDS = 60
PRELUDE = """
import os, sys, threading, time
from pytrimode import AsyncTriMode, TriMode

path = sys.argv[1]
MORE = {"max_tokens": 4000, "ignore_eos": True}
"""


def run(code: str, gguf: Path, *, ends: int = 0) -> tuple[str, str]:
    """What a program of its own writes to stdout and stderr; it must end by itself, with exit code `ends`."""
    program = PRELUDE + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(gguf)], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == ends, done.stderr
    assert "nanobind" not in done.stderr and "terminate" not in done.stderr
    return done.stdout, done.stderr


FORK = """
pid = os.fork()
if pid == 0:
    # A child that hangs is seen by its parent.
    for attempt in (
        lambda: model("Hello", max_tokens=4),
        lambda: next(model.create_completion("Hello", stream=True)),
        lambda: next(model.generate([1])),
        lambda: model.logits([1]),
        lambda: TriMode(path, n_threads=2),
    ):
        try:
            attempt()
            print("went on")
        except RuntimeError as error:
            print(error)
    model.close()
    print(len(model.tokenize("Hello")) > 0, flush=True)
    {end}
deadline = time.monotonic() + 20
while not (status := os.waitpid(pid, os.WNOHANG))[0]:
    if time.monotonic() > deadline:
        os.kill(pid, 9)
    time.sleep(0.02)
"""


@pytest.mark.parametrize("end", ["sys.exit(7)", "os._exit(7)"])
def test_a_fork_is_told_that_the_model_was_its_parents(q8_gguf: Path, end: str) -> None:
    code = """
    model = TriMode(path, n_threads=2)
    before = model("Hello", temperature=0)["choices"]
    FORK
    assert model("Hello", temperature=0)["choices"] == before
    print(status[1])
    """
    code = textwrap.dedent(code).replace("FORK", FORK.format(end=end))
    *said, tokens, status = run(code, q8_gguf)[0].splitlines()
    assert len(said) == 5 and all("is a fork of one that had loaded a model" in line for line in said)
    assert (tokens, os.waitstatus_to_exitcode(int(status))) == ("True", 7)


def test_a_fork_in_the_midst_of_an_answer_of_another_thread(q8_gguf: Path) -> None:
    code = """
    model = TriMode(path, n_threads=2, n_parallel=2, n_ctx=4096)
    def answer():
        model("Hello", **MORE)
    threading.Thread(target=answer, daemon=True).start()
    while not model.engine.times["passes"]:
        time.sleep(0.01)
    FORK
    print(status[1])
    """
    code = textwrap.dedent(code).replace("FORK", FORK.format(end="sys.exit(7)"))
    *said, tokens, status = run(code, q8_gguf)[0].splitlines()
    assert len(said) == 5 and all("is a fork of one that had loaded a model" in line for line in said)
    assert (tokens, os.waitstatus_to_exitcode(int(status))) == ("True", 7)


def test_a_fork_before_any_model_may_load_one(q8_gguf: Path) -> None:
    code = """
    pid = os.fork()
    text = TriMode(path, n_threads=2)("Hello", temperature=0)["choices"][0]["text"]
    if pid:
        os.waitpid(pid, 0)
    print(text, flush=True)
    """
    child, parent = run(code, q8_gguf)[0].splitlines()
    assert child == parent


@pytest.mark.parametrize(
    "answer",
    [
        'for token in model.generate(model.tokenize("Hello"), **MORE): pass',
        'model("Hello", **MORE)',
        'for chunk in model.create_completion("Hello", stream=True, **MORE): pass',
        "model.logits(model.tokenize('Hello') * 400)",
        "TriMode(path, n_threads=1)",
        "import asyncio; asyncio.run(AsyncTriMode(model).create_completion('Hello', **MORE))",
    ],
)
def test_daemon_threads_do_not_disturb_the_end(q8_gguf: Path, answer: str) -> None:
    code = f"""
    model = TriMode(path, n_threads=2, n_parallel=4, n_ctx=4096)
    def answer():
        while True:
            {answer}
    for _ in range(3):
        threading.Thread(target=answer, daemon=True).start()
    time.sleep(0.5)
    print("end")
    sys.exit(5)
    """
    assert run(code, q8_gguf, ends=5) == ("end\n", "")


def test_models_that_are_open_at_the_end(q8_gguf: Path) -> None:
    code = """
    import builtins
    model = TriMode(path, n_threads=2)
    stream = model.create_completion("Hello", stream=True, **MORE)
    next(stream)
    builtins.circle = circle = [model, stream]
    circle.append(circle)
    """
    assert run(code, q8_gguf) == ("", "")


def test_handlers_of_the_exit_may_still_use_the_model(q8_gguf: Path) -> None:
    code = """
    import atexit
    model = TriMode(path, n_threads=2)
    atexit.register(lambda: print(len(model("Hello", max_tokens=3)["choices"])))
    """
    assert run(code, q8_gguf) == ("1\n", "")


def test_an_end_by_a_signal_while_an_answer_is_made(q8_gguf: Path) -> None:
    code = PRELUDE + 'print("on", flush=True); TriMode(path, n_ctx=4096)("Hello", **MORE)'
    with subprocess.Popen(
        [sys.executable, "-c", code, str(q8_gguf)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) in (-signal.SIGINT, 130, 1)
        assert process.stderr.read().endswith("KeyboardInterrupt\n")
