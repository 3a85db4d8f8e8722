"""The command `pytrimode` as a user runs it: through pipes, or on a terminal."""

from __future__ import annotations

import subprocess
import sys

COMMAND = [sys.executable, "-m", "pytrimode"]
# The line editor turns bracketed paste on while it reads.
PROMPT_IS_UP, PROMPT_IS_GONE = r"\x1b\[\?2004h", r"\x1b\[\?2004l"
TIMEOUT = 60


def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
