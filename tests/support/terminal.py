"""The command `pytrimode` as a user runs it: through pipes, or on a terminal."""

from __future__ import annotations

import subprocess
import sys

from .forked import command_server

COMMAND = [sys.executable, "-m", "pytrimode"]
# The line editor turns bracketed paste on while it reads.
PROMPT_IS_UP, PROMPT_IS_GONE = r"\x1b\[\?2004h", r"\x1b\[\?2004l"
TIMEOUT = 60


def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return command_server().run([str(argument) for argument in arguments], stdin, TIMEOUT)
