"""Methods that take options by keyword: what `help()` and callers with a wrong name see of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pytrimode.options.option import Row

F = TypeVar("F", bound=Callable[..., Any])

MAX_SUGGESTIONS = 3


def takes(options: Iterable[Row], **defaults: Any) -> Callable[[F], F]:
    """Show options in a method's signature in place of its `**options`; `defaults`: those that the method changes."""

    def decorate(function: F) -> F:
        shown = inspect.signature(function)
        own = [p for p in shown.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        keyword = inspect.Parameter.KEYWORD_ONLY
        more = [
            inspect.Parameter(
                row.name, keyword, default=defaults.get(row.name, row.default), annotation=f"{row.kind} | None"
            )
            for row in options
        ]
        function.__signature__ = shown.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        return function

    return decorate


def check_names(method: Callable[..., Any], given: Iterable[str]) -> None:
    """Raise TypeError, as the method would, for a keyword argument that its signature does not have."""
    known = inspect.signature(method).parameters
    for name in given:
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, MAX_SUGGESTIONS)
            hint = f". Did you mean {' or '.join(close)}?" if close else ""
            name_shown = method.__qualname__.removesuffix(".__init__").rpartition(".")[2]
            raise TypeError(f"{name_shown}() got an unexpected keyword argument {name!r}{hint}")
