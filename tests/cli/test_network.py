"""No command opens a connection but those that it is asked for, as Python's audit events tell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.serving import Served
from support.synthetic import make_checkpoint

WATCHED = """
import json, sys
seen = []
NAMES = {"socket." + name for name in ("connect", "bind", "getaddrinfo", "gethostbyname", "sendto", "sendmsg")}
MODULES = {"trimode-convert": "pytrimode.convert.cli", "trimode-quantize": "pytrimode.quantize.cli"}
def hook(event, arguments):
    if event in NAMES:
        seen.append([event, [str(a) for a in arguments]])
sys.addaudithook(hook)
program, *arguments = sys.argv[1:]
try:
    if program == "pytrimode":
        from pytrimode.cli import run
        code = run(arguments)
    else:
        from importlib import import_module
        main = import_module(MODULES[program]).main
        code = 0
        main.main(arguments, prog_name=program, standalone_mode=False)
finally:
    print(json.dumps([code, seen]), file=sys.stderr)
"""


def watched(*command: object) -> tuple[int, list[tuple[str, list[str]]]]:
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, command)], capture_output=True, text=True, timeout=120, check=False
    )
    code, seen = json.loads(run.stderr.strip().splitlines()[-1])
    return code, [(event, arguments) for event, arguments in seen]


@pytest.mark.slow
def test_commands_about_files_open_none(q8_gguf: Path, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", lora_rank=2)
    for command in (
        ("pytrimode", "generate", q8_gguf, "-p", "Hi", "-n", 2, "-c", 128),
        ("pytrimode", "chat", q8_gguf, "-p", "https://example.com/x.png", "-n", 2, "-c", 128),
        ("pytrimode", "info", q8_gguf),
        ("pytrimode", "plan", q8_gguf),
        ("pytrimode", "doctor"),
        ("trimode-convert", checkpoint, tmp_path / "out.gguf", "--q8_0"),
        ("trimode-quantize", q8_gguf, tmp_path / "q.gguf", "q4_0", "--allow-requantize"),
    ):
        assert watched(*command) == (0, []), command


def test_chat_with_a_server_connects_to_that_one_alone(server: Served) -> None:
    code, seen = watched("pytrimode", "chat", "--url", server.url, "-p", "Hi", "-n", 2)
    port = server.url.rsplit(":", 1)[1]
    assert code == 0 and seen
    assert all("127.0.0.1" in str(arguments) and port in str(arguments) for _, arguments in seen), seen
    assert [event for event, _ in seen].count("socket.connect") >= 1


def test_a_server_listens_and_connects_to_nobody(q8_gguf: Path) -> None:
    """It ends by itself where the model cannot be loaded: what it has opened by then is all."""
    code, seen = watched("pytrimode", "serve", q8_gguf, "--port", 0, "-c", 64, "-B", 4000, "-m", "diffusion")
    assert code == 1
    assert {event for event, _ in seen} <= {"socket.bind", "socket.getaddrinfo"}
    assert all("127.0.0.1" in str(arguments) for _, arguments in seen) and seen
