"""`pytrimode serve` as a user runs it: in a process of its own, ended by a signal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.hostile import File, text
from support.serving import LONG, PATIENCE, error_of, parse, until

COMMAND = [sys.executable, "-m", "pytrimode", "serve"]


@contextmanager
def command(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The server as a process, and a client of it; ready."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--port", "0", "-t", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        assert process.stderr
        found = re.match(r"listening on (http://\S+) ", line := process.stderr.readline())
        assert found, line
        with httpx.Client(base_url=found[1], timeout=PATIENCE, trust_env=False) as client:
            until(lambda: client.get("/health").status_code == 200)
            yield process, client
    finally:
        process.kill()
        process.wait()


def end(process: subprocess.Popen[str]) -> str:
    """What it wrote to stderr until its end."""
    assert process.stderr
    text = process.stderr.read()
    process.wait(PATIENCE)
    return text


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_running_streams_properly(q8_gguf: Path, number: signal.Signals) -> None:
    with command(q8_gguf, "-c", 16384, "--shutdown-timeout", 0.2) as (process, client):
        with client.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as response:
            lines = (line for line in response.iter_lines() if line)
            parse(next(lines))
            process.send_signal(number)
            *_, last = map(parse, lines)
        assert last["error"]["type"] == "unavailable_error"
        log = [json.loads(line) for line in end(process).splitlines() if line]
        assert process.returncode == (130 if number == signal.SIGINT else 0)
    assert log[0]["message"] == "model loaded" and log[-1]["status"] == 200
    assert not [line for line in log if "exception" in line]


def test_a_signal_right_after_loading_ends_it_without_a_word(q8_gguf: Path) -> None:
    command = [*COMMAND, str(q8_gguf), "--port", "0", "-t", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "model loaded" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert end(process) == "" and process.returncode == 0


@pytest.mark.slow
def test_input_that_recurses_deep_does_not_end_the_process(q8_gguf: Path) -> None:
    with command(q8_gguf, "-c", 8192, "-m", "ar", "--alias", "deep", PYTRIMODE_API_KEY="from-environment") as running:
        process, client = running
        client.headers["Authorization"] = "Bearer from-environment"
        letters = client.post("/tokenize", json={"content": "a" * 65_000})
        assert len(letters.json()["tokens"]) > 8192
        longest = client.post("/v1/completions", json={"prompt": "a" * 120_000})
        assert error_of(longest)["type"] == "exceed_context_size_error"
        grammar = {"prompt": "x", "grammar": "root ::= " + "(" * 30_000 + '"a"' + ")" * 30_000}
        assert client.post("/v1/completions", json=grammar).json()["choices"][0]["text"] == "a"
        nested = {"type": "json_schema", "json_schema": {"schema": {"pattern": "^" + "(" * 3000 + "a" + ")" * 3000}}}
        assert client.post("/v1/completions", json={"prompt": "x", "response_format": nested}).status_code in (200, 400)
        assert client.get("/v1/models").json()["data"][0]["id"] == "deep"
        assert client.get("/props").json()["default_generation_settings"]["params"]["mode"] == "ar"
        assert process.poll() is None


@pytest.mark.slow
def test_other_addresses_without_a_key_are_warned_of(q8_gguf: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("\none\n two \n")
    for options, warned in ((["--host", "0.0.0.0"], True), (["--host", "0.0.0.0", "--api-key-file", keys], False)):
        with command(q8_gguf, "-c", 64, *options) as (process, client):
            status = client.get("/v1/models", headers={"Authorization": "Bearer two"}).status_code
            assert status == 200
            assert client.get("/v1/models").status_code == (200 if warned else 401)
            process.send_signal(signal.SIGTERM)
            assert ("warning: everybody" in end(process)) == warned


def run(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-c", code, *map(str, arguments)] if code else [*COMMAND, *map(str, arguments)]
    return subprocess.run(start, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.slow
def test_what_cannot_be_served_is_one_line(q8_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(q8_gguf.read_bytes()[:-1000])
    cut = run(tmp_path / "cut.gguf", "--port", 0)
    assert cut.returncode == 1 and cut.stderr.splitlines()[-1].startswith("error: ") and "cut.gguf" in cut.stderr
    none = run(tmp_path / "none.gguf")
    assert none.returncode == 1 and none.stderr == f"error: {tmp_path}/none.gguf: no such file\n"
    elsewhere = run(q8_gguf, "--host", "192.0.2.1")
    assert elsewhere.returncode == 1
    assert elsewhere.stderr == "error: cannot listen on 192.0.2.1:8080: Cannot assign requested address\n"
    (tmp_path / "empty.keys").write_text("\n")
    (tmp_path / "binary.keys").write_bytes(b"\xff\xfe")
    for name, reason in (("empty.keys", "it has no key"), ("binary.keys", "it is no text")):
        keyless = run(q8_gguf, "--port", 0, "--api-key-file", tmp_path / name)
        assert (keyless.returncode, keyless.stderr) == (1, f"error: --api-key-file {tmp_path}/{name}: {reason}\n")
    assert "Traceback" not in cut.stderr + none.stderr + elsewhere.stderr
    assert run("--help").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mode", "quick"], "unknown mode 'quick'"),
        (["-B", 4000], "block_length 4000: must be at most n_batch (512)"),
    ],
)
def test_defaults_that_no_request_could_have_end_the_start(q8_gguf: Path, options: list[object], message: str) -> None:
    refused = run(q8_gguf, "--port", 0, *options)
    assert refused.returncode == 1 and refused.stderr.splitlines()[-1].startswith(f"error: {message}")


def test_without_the_extra_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from pytrimode.cli import run; sys.exit(run(sys.argv[1:]))"
    result = run("serve", code=code)
    assert result.returncode == 1
    assert result.stderr == (
        'error: the server needs packages that are not installed (uvicorn): pip install "pytrimode[server]"\n'
    )
    assert run("serve", "--help", code=code).returncode == 0


FORGED = '{"time": "now", "level": "info", "message": "forged"}'


def test_no_client_and_no_file_writes_a_line_of_the_log(q8_gguf: Path, tmp_path: Path) -> None:
    """Grammars reached stderr through llama.cpp's parser; names in files still do through its log."""
    named = tmp_path / "named.gguf"
    named.write_bytes(File.read(q8_gguf).set("general.name", text(f"a\n{FORGED}\n\x1b]0;owned\x07ü")).encode())
    with command(named, "-c", 512, "--verbose") as (process, client):
        for grammar in (f"root ::= \n{FORGED}\n (", f'root ::= "{FORGED}" unknown-rule', "\x1b[2J\n" * 50,
                        f"%llguidance {{}}\nstart: unknown\n{FORGED}"):  # fmt: skip
            answer = client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1, "grammar": grammar})
            assert answer.status_code == 400
        client.post("/v1/completions", json={"prompt": f"\n{FORGED}\n", "max_tokens": 1, "user": FORGED})
        client.get(f"/{FORGED}")
        process.send_signal(signal.SIGTERM)
        said = end(process)
    lines = [json.loads(line) for line in said.splitlines()]
    assert len([line for line in lines if line["message"] == "llama.cpp"]) > 20
    assert any("owned" in line.get("text", "") for line in lines), "the name was logged"
    assert not [line for line in lines if line["message"] == "forged"]
    assert "\x1b" not in said and "unknown-rule" not in said


@pytest.mark.slow
def test_a_person_reads_lines_and_a_file_takes_them(q8_gguf: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    alias = "a\x1b[2Jname"
    with command(q8_gguf, "-c", 512, "-np", 2, "--log-format", "text", "--log-file", log, "-a", alias) as (
        process,
        client,
    ):
        client.post("/v1/completions", json={"prompt": "a", "max_tokens": 2})
        client.get("/nothing")
        process.send_signal(signal.SIGTERM)
        assert end(process) == "" and process.returncode == 0
    text = log.read_text()
    assert "\x1b" not in text and "llama.cpp: " in text, "llama.cpp's log goes there too"
    lines = [line for line in text.splitlines() if not line.startswith("llama.cpp: ")]
    url = str(client.base_url).rstrip("/")
    assert re.match(
        rf"\d\d:\d\d:\d\d open {url}/ in a browser, or use {url}/v1 as OpenAI's base_url: model a\\x1b\[2Jname, "
        r"n_ctx 512, slots 2, threads 1, mode auto, seconds [\d.]+$",
        lines[0],
    )
    assert re.search(r"POST /v1/completions 200 in [\d.]+ ms: ", text) and "GET no route 404 in " in text


def test_the_log_level_is_the_least_that_is_written(q8_gguf: Path) -> None:
    with command(q8_gguf, "-c", 256, "--log-level", "warning") as (process, client):
        client.post("/v1/completions", json={"prompt": "a", "max_tokens": 2})
        process.send_signal(signal.SIGTERM)
        assert end(process) == ""
