"""Where options come from: flags as llama.cpp's users write them, the environment, a file with presets."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.terminal import run as process

from pytrimode.cli import run

QUICK = ["-t", "1", "-c", "256", "-n", "6", "--temp", "0", "--json"]
Generate = Callable[..., dict]


@pytest.fixture
def generate(q8_gguf: Path, capfd: pytest.CaptureFixture[str]) -> Generate:
    """The result of `pytrimode generate`, in this process."""

    def call(*arguments: object, model: Path | None = q8_gguf, quick: bool = True) -> dict:
        given = [
            "generate",
            *([model] if model else []),
            "-p",
            "Hello",
            "--ignore-eos",
            *(QUICK if quick else ["--json"]),
            *arguments,
        ]
        assert run([str(argument) for argument in given]) == 0
        return json.loads(capfd.readouterr().out)

    return call


@pytest.fixture
def wrong(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The message of a command that is refused for its usage, in a line."""

    def call(*arguments: object) -> str:
        assert run([str(argument) for argument in arguments]) == 2
        said = capfd.readouterr()
        assert said.out == ""
        return said.err.strip().splitlines()[-1]

    return call


def n_tokens(result: dict) -> int:
    return result["usage"]["completion_tokens"]


# --- Flags -----------------------------------------------------------------------------------------------------------


def test_m_is_the_model_and_a_mode_name_is_still_the_mode(
    generate: Generate, wrong: Callable[..., str], q8_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_flag = generate("-m", q8_gguf, "--mode", "ar", model=None)
    assert by_flag["model"] == str(q8_gguf)
    assert generate("-m", "ar")["choices"] == by_flag["choices"]
    assert generate("-m", "ar")["timings"]["draft_n"] == 0
    assert "give one of them" in wrong("generate", q8_gguf, "-m", "other.gguf", "-p", "x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ar").symlink_to(q8_gguf)
    assert generate("-m", "ar", model=None)["model"] == "ar", "a file of that name is the model"
    assert run(["generate", "-m", "none.gguf", "-p", "x"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-hf", "user/repo"], "options stand behind a command"),
        (["chat", "--tempp", "0"], "No such option --tempp: did you mean --temp"),
        (["chat", "-nlg", "3"], "No such option -nlg: did you mean -ngl?"),
        (["chat", "-hx"], "No such option -hx"),
        (["chat", "--ngl", "3"], "did you mean -ngl"),
        (["chat", "-p", "x", "--", "a", "b"], "unexpected extra argument"),
        (["chta"], "No such command 'chta': did you mean chat?"),
        (["model.gguf"], "pytrimode chat model.gguf"),
        (["serve", "-p", "8080"], "No such option -p"),
    ],
)
def test_wrong_usage_names_what_was_meant(wrong: Callable[..., str], arguments: list[str], message: str) -> None:
    assert message in wrong(*arguments)


def test_values_may_look_like_flags_and_numbers_may_stick_to_them(generate: Generate) -> None:
    assert n_tokens(generate("-n3")) == 3
    assert generate("-p", "-hello", "--stop", "-n")["object"] == "text_completion"


def test_run_is_chat_and_llama_cpps_names_are_taken(q8_gguf: Path) -> None:
    options = ["-t", 1, "-c", 512, "-n", 8, "--temp", 0]
    usual = process("chat", q8_gguf, "--system", "Be brief.", "-p", "Hello", *options)
    other = process("run", "-m", q8_gguf, "-sys", "Be brief.", "-p", "Hello", "--no-mmap", *options)
    assert usual.returncode == other.returncode == 0 and usual.stdout == other.stdout != ""


def test_the_log_goes_to_a_file(
    generate: Generate, q8_gguf: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "run.log"
    generate("--log-file", log)
    assert "llama.cpp: " in log.read_text() and "llama_model_loader" in log.read_text()
    assert "llama_model_loader" not in capfd.readouterr().err
    generate()
    size = log.stat().st_size
    generate("-v")
    assert log.stat().st_size == size
    assert "llama_model_loader" in process("generate", q8_gguf, "-p", "x", "-n", 2, "-c", 256, "-v").stderr
    assert run(["generate", "-p", "x", "--log-file", str(tmp_path / "none" / "log")]) == 1


def test_mlock_keeps_the_weights_in_memory(q8_gguf: Path, tmp_path: Path) -> None:
    for options in (["--no-repack"], []):
        result = process("generate", q8_gguf, "-p", "Hello", "-n", 4, "-t", 1, "-c", 256, "--mlock", *options)
        assert result.returncode == 0
        # Where the system has a limit, the model runs all the same and says so.
        refused = re.search(r"cannot be locked in memory: .*", result.stderr)
        assert refused is None or "ulimit -l" in refused[0] or "not permitted" in refused[0]


def test_locked_bytes_are_those_of_the_weights(q8_gguf: Path) -> None:
    from pytrimode import _native

    try:
        locked = _native.Model(str(q8_gguf), repack=False).lock()
    except RuntimeError as error:
        assert "cannot be locked in memory" in str(error)
        return
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    assert locked >= 0.9 * q8_gguf.stat().st_size and "VmLck" in status


def test_an_rpc_server_that_is_not_there_is_named(capfd: pytest.CaptureFixture[str], q8_gguf: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert run(["generate", str(q8_gguf), "-p", "x", "--rpc", f"127.0.0.1:{port}"]) == 1
    assert f"rpc 127.0.0.1:{port}: no server answers there" in capfd.readouterr().err
    assert run(["generate", str(q8_gguf), "-p", "x", "--rpc", "host:many"]) == 1
    assert "expected HOST:PORT" in capfd.readouterr().err


# --- Environment -----------------------------------------------------------------------------------------------------


def test_options_come_from_the_environment(generate: Generate, q8_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_MODEL", str(q8_gguf))
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "300")
    monkeypatch.setenv("LLAMA_ARG_N_PREDICT", "9")
    monkeypatch.setenv("PYTRIMODE_MODE", "ar")
    monkeypatch.setenv("PYTRIMODE_TEMP", "0")
    monkeypatch.setenv("PYTRIMODE_MAX_TOKENS", "3")
    result = generate(model=None, quick=False)
    assert result["model"] == str(q8_gguf) and n_tokens(result) == 3, "ours counts before llama.cpp's"
    assert n_tokens(generate("-n", "5", model=None, quick=False)) == 5, "what is typed counts first"
    monkeypatch.setenv("LLAMA_ARG_MMAP", "0")
    assert n_tokens(generate(model=None, quick=False)) == 3


# --- The file --------------------------------------------------------------------------------------------------------

CONFIG = """
max-tokens = 5
port = 9000          # of serve: others leave it alone

[generate]
temp = 0

[presets.short]
max_tokens = 2
stop = ["x", "y"]
no-mmap = true
"""


def test_presets_and_defaults_come_from_a_file(
    generate: Generate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(CONFIG)
    assert n_tokens(generate("--config", file, quick=False)) == 5
    assert n_tokens(generate("--config", file, "--preset", "short", quick=False)) == 2
    assert n_tokens(generate(f"--config={file}", "--preset=short", "-n", "4", quick=False)) == 4
    monkeypatch.setenv("PYTRIMODE_MAX_TOKENS", "3")
    assert n_tokens(generate("--config", file, "--preset", "short", quick=False)) == 3, "before the file: environment"
    monkeypatch.delenv("PYTRIMODE_MAX_TOKENS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "pytrimode").mkdir()
    file.rename(tmp_path / "pytrimode" / "config.toml")
    assert n_tokens(generate("--preset", "short", quick=False)) == 2
    monkeypatch.setenv("PYTRIMODE_PRESET", "short")
    assert n_tokens(generate(quick=False)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max-token = 3", "max-token: no such option: did you mean max-tokens"),
        ("[genrate]\nn = 1", "[genrate] is no command: did you mean generate?"),
        ("[generate]\nport = 1", "[generate] port: no such option"),
        ("[presets.other]\ntemp = 0", "has no [presets.mine]; there are: other"),
        ("[presets.mine]\ntemp = true", "[presets.mine] temp: true is no value for --temp"),
        ("[presets.mine]\nmlock = 1", "mlock = 1: true or false is needed"),
        ("[presets.mine]\nmax-tokens = 'many'", "'many' is not a valid integer"),
        ("= 3", "this is no TOML"),
    ],
)
def test_a_file_with_a_mistake_is_named(wrong: Callable[..., str], tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    assert message in wrong("generate", "-p", "x", "--config", file, "--preset", "mine")


def test_a_file_that_is_not_there_is_an_error_when_it_was_named(wrong: Callable[..., str], tmp_path: Path) -> None:
    assert "No such file" in wrong("generate", "-p", "x", "--config", tmp_path / "none.toml")
    assert "--config names another file" in wrong("generate", "-p", "x", "--preset", "mine")
    assert run(["generate", "--help", "--config", str(tmp_path / "none.toml")]) == 0
