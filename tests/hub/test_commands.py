"""The commands take models by their names on the hub, and `models` lists and removes them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.hub_server import Hub, HubRepo

import pytrimode.cli

NAME = "me/Small-Diffusion-8B"


def pytrimode_command(*arguments: str) -> Result:
    return CliRunner().invoke(pytrimode.cli.cli, list(arguments), catch_exceptions=False)


def test_a_chat_in_one_command(hub: Hub, checkpoint_dir: Path, tmp_path: Path) -> None:
    """In a process of its own, with the shipped checkpoint as the repository; the second start asks nobody."""
    hub.repos["nvidia/trimode-tiny"] = HubRepo(checkpoint_dir)
    command = [sys.executable, "-m", "pytrimode", "chat"]
    said = ["-p", "What is the mode self-spec?", "--temp", "0", "-n", "40", "-c", "256", "-t", "1"]
    answers = []
    for model in (["nvidia/trimode-tiny"], ["-hf", "nvidia/trimode-tiny:q8_0"]):
        done = subprocess.run([*command, *model, *said], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
        assert ("then converting to q8_0" in done.stderr) == (len(answers) == 1)
        asked = len(hub.requests)
    assert answers[0] == answers[1] and len(answers[0]) > 40
    assert asked == len(hub.requests)
    found = json.loads(pytrimode_command("models", "--json").output)
    assert [(one["repo"], one["type"]) for one in found] == [
        ("nvidia/trimode-tiny", "q8_0"),
        ("nvidia/trimode-tiny", "safetensors"),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", NAME, "-p", "x", "-n", "2", "-c", "64", "-t", "1"),
        ("generate", "-hf", f"{NAME}:q4_0", "-p", "x", "-n", "2", "-c", "64", "-t", "1"),
        ("plan", NAME, "--vram", "4GiB"),
        ("plan", "-hf", NAME, "--vram", "4GiB"),
    ],
)
def test_commands_take_names(hub: Hub, arguments: tuple[str, ...]) -> None:
    done = pytrimode_command(*arguments)
    assert done.exit_code == 0, done.output
    assert any(f"/{NAME}" in path for _, path, _ in hub.requests)


def test_serve_takes_a_name(hub: Hub) -> None:
    """It downloads before it listens."""
    command = [sys.executable, "-m", "pytrimode", "serve", NAME, "--port", "0", "-c", "64"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as served:
        try:
            assert served.stderr is not None
            lines = []
            for line in served.stderr:
                lines.append(line)
                if "http://127.0.0.1:" in line and NAME not in line:
                    break
            assert "then converting to" in lines[0]
        finally:
            served.send_signal(signal.SIGTERM)
            served.stderr.close()
    assert served.returncode in (0, -signal.SIGTERM)


def test_info_takes_what_is_here(hub: Hub) -> None:
    assert isinstance(CliRunner().invoke(pytrimode.cli.cli, ["info", NAME]).exception, FileNotFoundError)
    assert hub.requests == []
    pulled = pytrimode_command("models", "pull", NAME)
    assert pulled.exit_code == 0, pulled.output
    assert "Small-Diffusion-8B" in pytrimode_command("info", NAME).output


def test_a_model_is_named_once(hub: Hub) -> None:
    done = pytrimode_command("generate", NAME, "-hf", NAME, "-p", "x")
    assert done.exit_code == 2 and "give one of them" in done.output


def test_models_lists_and_removes(hub: Hub, tmp_path: Path) -> None:
    assert "no models" in pytrimode_command("models").output
    for kind in ("q8_0", "q4_0"):
        pulled = pytrimode_command("models", "pull", f"{NAME}:{kind}")
        assert Path(pulled.output.splitlines()[-1]).is_file()
    listed = pytrimode_command("models").output.splitlines()
    assert listed[0].split() == ["name", "type", "size", "used", "where"]
    rows = {row.split()[1]: row for row in listed[1:]}
    assert set(rows) == {"q8_0", "q4_0", "safetensors"}
    assert all(NAME in row and str(tmp_path / "cache") in row and " now " in row for row in rows.values())
    assert "1.76 MB" in rows["safetensors"]
    wrong = pytrimode_command("models", "rm", f"{NAME}:q5_0")
    assert wrong.exit_code == 1 and f"there is {NAME}:" in wrong.output
    assert f"{NAME}:q8_0: removed" in pytrimode_command("models", "rm", f"{NAME}:Q8_0").output
    assert len(pytrimode_command("models").output.splitlines()) == 3
    removed = pytrimode_command("models", "rm", NAME)
    assert removed.exit_code == 0 and removed.output.count("removed") == 2
    assert "no models" in pytrimode_command("models").output
    assert not list(tmp_path.glob("hf/hub/models--*"))


def test_two_that_fetch_at_once_take_turns(hub: Hub) -> None:
    command = [sys.executable, "-m", "pytrimode", "models", "pull", f"{NAME}:q8_0"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    printed = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert printed[0] == printed[1] and Path(printed[0].strip()).is_file()
    assert hub.downloads().count("model.safetensors") == 1
