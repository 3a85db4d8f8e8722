"""Renders chat templates, in a process that may end of it; see `worker_loop`. Templates are programs of strangers."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

MAX_CHARS = 1 << 24
"""Of a prompt."""
_NEEDLE = "a text of a user"


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(fmt: str) -> str:
    return datetime.now().strftime(fmt)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML characters; transformers' does not."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, which marks what a model is trained on: here it is what stands in it."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _environment() -> jinja2.Environment:
    """Return the environment that transformers renders templates in (utils/chat_template_utils.py)."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


@lru_cache(maxsize=8)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


def _render(source: str, variables: dict[str, Any]) -> str:
    pieces, size = [], 0
    for piece in _compiled(source).generate(variables):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_CHARS:
            raise ValueError(f"it writes more than {MAX_CHARS} characters")
    return "".join(pieces)


def _line_of(error: BaseException) -> int | None:
    """Return the line of the template in which an error came up, as Jinja marks it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return lines[-1] if lines else None


def _reads(source: str, content: Any, variables: dict[str, Any]) -> bool:
    """Whether a template writes content of this kind as the text that it is."""
    try:
        text = _render(source, {**variables, "messages": [{"role": "user", "content": content}]})
    except Exception:
        return False
    return _NEEDLE in text and "'type'" not in text and '"type"' not in text


def _describe(source: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Return what there is to know of a template; `error`: why it does not compile."""
    try:
        environment = _environment()
        names = sorted(jinja2.meta.find_undeclared_variables(environment.parse(source)))
        _compiled(source)
    except jinja2.TemplateSyntaxError as error:
        return {"error": f"line {error.lineno}: {error.message}"}
    except RecursionError:
        return {"error": "it is nested too deeply"}
    parts = [{"type": "text", "text": _NEEDLE}]
    return {
        "variables": names,
        "reads_text": _reads(source, _NEEDLE, variables),
        "reads_parts": _reads(source, parts, variables),
    }


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    source, variables = request["source"], request["variables"]
    if "messages" not in variables:
        return _describe(source, variables)
    try:
        return {"text": _render(source, variables)}
    except MemoryError:
        raise
    except Exception as error:
        name = "" if isinstance(error, (jinja2.TemplateError, ValueError)) else type(error).__name__
        message = ": ".join(part for part in (name, str(error)) if part)
        return {"error": message, "line": _line_of(error), "refused": isinstance(error, jinja2.TemplateError)}


def start() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers {"source": a template, "variables": {...}}: with `messages` {"text"} or {"error", "line"},
    else what there is to know of it.
    """
    return _answer
