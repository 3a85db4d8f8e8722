"""From another API's words to a `ChatCompletionRequest` or a `CompletionRequest`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from pytrimode.server.schema import ChatCompletionRequest, CompletionRequest

R = TypeVar("R", ChatCompletionRequest, CompletionRequest)


def asked(kind: type[R], fields: dict[str, Any]) -> R:
    """Return a request in our words. Raises RequestValidationError, FieldError for values that are none."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError([_in_body(detail) for detail in error.errors()]) from None


def _in_body(detail: Mapping[str, Any]) -> dict[str, Any]:
    return {**detail, "loc": ("body", *detail["loc"])}
