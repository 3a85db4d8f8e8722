"""`--rpc`: layers on another machine, here another process behind ggml's RPC backend."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.serving import until
from support.terminal import COMMAND, TIMEOUT, run

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def rpc_server() -> Iterator[str]:
    """Where another process lends its CPU."""
    port = free_port()
    command = [*COMMAND, "rpc-server", "--port", str(port), "-t", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"lending CPU at 127.0.0.1:{port}; Ctrl-C ends it\n"
        until(lambda: is_listening(port))
        yield f"127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == -signal.SIGINT


@pytest.mark.parametrize("mode", ["ar", "self-spec", "diffusion"])
def test_layers_behind_rpc_give_the_same_answer(rpc_server: str, tiny_gguf: object, mode: str) -> None:
    # F16 weights: products with quantized ones round activations in a way of each backend's own.
    gguf = tiny_gguf("f16")  # type: ignore[operator]
    options = ["--chat", "-p", "What is 12 plus 30?", "-n", 12, "--temp", 0, "--mode", mode, "-c", 256, "-t", 1]
    here = json.loads(run("generate", gguf, *options, "--no-repack", "--json").stdout)
    there = run("generate", gguf, *options, "--rpc", rpc_server, "-ngl", "all", "--json", "-v")
    assert json.loads(there.stdout)["choices"] == here["choices"]
    assert "RPC0" in there.stderr and "offloaded" in there.stderr


def test_an_address_in_use_is_an_error(rpc_server: str) -> None:
    result = run("rpc-server", "--port", rpc_server.rpartition(":")[2])
    assert result.returncode == 1 and f"cannot listen on {rpc_server}" in result.stderr
    assert run("rpc-server", "--port", free_port(), "-d", "CUDA7").stderr.endswith("lists those that are\n")


def test_a_server_that_dies_ends_the_run_with_an_error(q8_gguf: Path) -> None:
    port = free_port()
    server = subprocess.Popen([*COMMAND, "rpc-server", "--port", str(port), "-t", "1"], stderr=subprocess.DEVNULL)
    until(lambda: is_listening(port))
    command = [*COMMAND, "generate", str(q8_gguf), "-p", "a", "--rpc", f"127.0.0.1:{port}", "-ngl", "all", "-c", "8192",
               "--ignore-eos", "--no-loop-detection", "--mode", "ar"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        assert client.stdout and client.stdout.read(20)
        server.kill()
        server.wait()
        said = client.communicate(timeout=TIMEOUT)[1]
    assert client.returncode == 1 and "Traceback" not in said and said.startswith("error: ")
