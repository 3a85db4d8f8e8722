"""Structured logs: a JSON object per line, never with the text of a prompt or an answer."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import datetime, timezone
from typing import Any

from pytrimode import _native

LOGGER = "pytrimode.server"
# Their messages are the engine's and the system's; those of others may quote what they were given.
_MESSAGE_IS_SAFE = (OSError, RuntimeError, MemoryError)


def describe(error: BaseException) -> dict[str, Any]:
    """Return an exception for the log: type and frames, and its message where that cannot quote a client."""
    frames = traceback.extract_tb(error.__traceback__)
    described: dict[str, Any] = {
        "exception": type(error).__name__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, _MESSAGE_IS_SAFE):
        described["detail"] = str(error)
    return described


class JsonFormatter(logging.Formatter):
    """Time, level, message, and what a record has in `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage().strip(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1]:
            line |= describe(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def configure() -> None:
    """Send the server's log, uvicorn's warnings, and llama.cpp's log if it is shown, to stderr."""
    _native.set_log_json(True)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, level in ((LOGGER, logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
