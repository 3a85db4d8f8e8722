"""The server's log, never with the text of a prompt or an answer: a JSON object per line, or lines for a person."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytrimode import _native

LOGGER = "pytrimode.server"
JSON, TEXT = "json", "text"
FORMATS = {TEXT: "lines for a person", JSON: "an object per line"}
LEVELS = ("debug", "info", "warning", "error")
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


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = dict(getattr(record, "fields", {}))
    if record.exc_info and record.exc_info[1]:
        fields |= describe(record.exc_info[1])
    return fields


class JsonFormatter(logging.Formatter):
    """Time, level, message, and what a record has in `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage().strip(),
            **_fields_of(record),
        }
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """The same for a person: local time, the level where it is a warning or worse, fields as `name value`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and one more for each frame of an exception."""
        fields = _fields_of(record)
        frames = fields.pop("frames", [])
        parts = [datetime.fromtimestamp(record.created).strftime("%H:%M:%S")]
        if record.levelno >= logging.WARNING:
            parts.append(f"{record.levelname}:")
        if "route" in fields:
            parts += _request(fields)
        elif url := fields.pop("url", None):
            parts.append(f"open {url}/ in a browser, or use {url}/v1 as OpenAI's base_url")
        else:
            parts.append(record.getMessage().strip())
        told = ", ".join(f"{name} {value}" for name, value in fields.items() if value is not None)
        lines = [" ".join(parts) + (f": {told}" if told else ""), *(f"    {frame}" for frame in frames)]
        return "\n".join(map(_printable, lines))


def _printable(line: str) -> str:
    """Write control characters out: names in files drive no terminal, and forge no line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _request(fields: dict[str, Any]) -> list[str]:
    """Return the first words of a request's line, and take their fields: `POST /v1/completions 200 in 41.0 ms`."""
    fields.pop("request_id", None)
    method, route, status, ms = (fields.pop(name, None) for name in ("method", "route", "status", "ms"))
    return [str(method), str(route or "no route"), str(status), f"in {ms} ms"]


def configure(style: str = JSON, level: str = "info", file: Path | None = None) -> None:
    """Send the server's log, uvicorn's warnings, and llama.cpp's log if it is shown, to stderr or to a file.

    `style`: one of FORMATS; `level`: the least of LEVELS that is written. Raises OSError for a file that cannot be
    written.
    """
    _native.set_log_json(style == JSON)
    handler = logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == JSON else TextFormatter())
    least = getattr(logging, level.upper())
    for name, own in ((LOGGER, logging.DEBUG), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(max(own, least))
        logger.propagate = False
