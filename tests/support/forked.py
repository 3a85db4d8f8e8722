"""`pytrimode` commands as processes that are forked from one that has imported it: importing is most of what they do.

A command has its own arguments, environment, directory and files for its input and output, and ends as Python ends.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

N_FILES = 4
"""What was asked, input, output, errors."""


class CommandServer:
    """The process that commands are forked from, one at a time."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen([sys.executable, __file__, str(number)], pass_fds=[number])
        atexit.register(self._end)

    def run(self, arguments: Sequence[str], stdin: str, timeout: int) -> subprocess.CompletedProcess[str]:
        """What `subprocess.run` gives for the command, its output captured as text; -SIGALRM after so many seconds."""
        asked = {"arguments": arguments, "cwd": str(Path.cwd()), "environment": dict(os.environ), "timeout": timeout}
        with tempfile.TemporaryDirectory(prefix="command-") as directory, ExitStack() as opened:
            paths = [Path(directory, str(i)) for i in range(N_FILES)]
            files = [opened.enter_context(path.open("w+", encoding="utf-8")) for path in paths]
            for file, text in zip(files, (json.dumps(asked), stdin), strict=False):
                file.write(text)
                file.seek(0)
            socket.send_fds(self._socket, [b"!"], [file.fileno() for file in files])
            status = int.from_bytes(self._socket.recv(4), "little", signed=True)
            out, err = (path.read_text(encoding="utf-8") for path in paths[2:])
        return subprocess.CompletedProcess(["pytrimode", *arguments], status, out, err)

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def command_server() -> CommandServer:
    """The one of this process."""
    return CommandServer()


def _serve(channel: socket.socket) -> None:
    from pytrimode import cli

    while True:
        message, files, _, _ = socket.recv_fds(channel, 1, N_FILES)
        if not message:
            return
        child = os.fork()
        if not child:
            channel.close()
            sys.exit(cli.run(_become_command(files)))
        for file in files:
            os.close(file)
        _, status = os.waitpid(child, 0)
        channel.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True))


def _become_command(files: list[int]) -> list[str]:
    for number, file in enumerate(files[1:]):
        os.dup2(file, number)
    with os.fdopen(files[0], encoding="utf-8") as file:
        asked = json.load(file)
    for number in files[1:]:
        os.close(number)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["pytrimode", *asked["arguments"]]
    signal.alarm(asked["timeout"])
    return asked["arguments"]  # type: ignore[no-any-return]


if __name__ == "__main__":
    del sys.path[0]  # this directory
    _serve(socket.socket(fileno=int(sys.argv[1])))
