"""Errors as clients see them: OpenAI's body with llama-server's types and codes, never a stack trace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from pytrimode import CacheFullError
from pytrimode.server.error_shapes import shaped
from pytrimode.server.fields import FieldError
from pytrimode.server.schema import FIELDS

# llama-server's `format_error_response` names those of its codes; the others are OpenAI's.
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
    504: "timeout_error",
}
_DETAILS_SHOWN = 3


class ErrorObject(BaseModel):
    """What went wrong; some types have further fields."""

    model_config = ConfigDict(extra="allow")

    code: int
    message: str
    type: str
    param: str | None


class ErrorBody(BaseModel):
    """The body of every response that is no success, for the API's schema."""

    error: ErrorObject


class ApiError(Exception):
    """An answer that is no success. `fields` go into the error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = {
            "error": {
                "code": status,
                "message": message,
                "type": type or _TYPES.get(status, "invalid_request_error"),
                "param": param,
                **fields,
            }
        }

    def response(self, path: str) -> JSONResponse:
        """Return the whole HTTP response to a request for a path."""
        return JSONResponse(shaped(path, self.body), self.status, self.headers)


def from_exception(error: Exception) -> ApiError:
    """Return what a client is told of an exception; a ValueError is about the request, its text is for the client."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UnicodeError):
        return ApiError(400, "the request has text that is not Unicode (a lone surrogate)")
    # The sampler finds out only while it runs that a grammar leaves no token.
    if isinstance(error, ValueError) or (isinstance(error, RuntimeError) and str(error).startswith("grammar")):
        return ApiError(400, str(error), param=_field_of(str(error)))
    if isinstance(error, CacheFullError):
        return ApiError(503, str(error), headers={"Retry-After": "1"})
    return ApiError(500, "internal error; the server's log has more under this request's id")


def _field_of(message: str) -> str | None:
    """Return the field that a message begins with."""
    name = re.split(r"[^a-z_]", message, maxsplit=1)[0]
    return name if name in FIELDS else None


_MEANT: dict[str, str] = {
    "stop": "text or a list of at most 16 texts, each of at most 512 characters",
    "prompt": "text, a list of texts, a list of token ids, or a list of such lists",
    "content": "text or a list of parts",
    "tool_choice": "a name or an object",
    "fused": 'true, false or "auto"',
}
"""What fields of several types take."""
_WORDS: dict[str, str] = {
    "missing": "is missing",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
}
"""By pydantic's type of an error."""


def _of_validation(error: RequestValidationError) -> ApiError:
    """In words of the API, without the values, which may be long."""
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {found[0].get('ctx', {}).get('error', 'invalid')}")
    lines = list(dict.fromkeys(map(_line, found)))
    if len(lines) > _DETAILS_SHOWN:
        lines[_DETAILS_SHOWN:] = [f"and {len(lines) - _DETAILS_SHOWN} more"]
    location = list(found[0]["loc"]) if found else []
    param = location[1] if len(location) > 1 and isinstance(location[1], str) else None
    return ApiError(400, "; ".join(lines), param=param)


def _line(detail: Mapping[str, Any]) -> str:
    path: list[str] = []
    for part in detail["loc"][1:]:
        path.append(str(part))
        if part in _MEANT and detail["type"] != "missing":
            return f"{'.'.join(path)} must be {_MEANT[part]}"
    words = _WORDS.get(detail["type"])
    said = words.format(**detail.get("ctx", {})) if words else f"is wrong: {detail['msg']}"
    return f"{'.'.join(path) or 'the body'} {said}"


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> JSONResponse:
        return error.response(request.url.path)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _of_validation(error).response(request.url.path)

    @app.exception_handler(FieldError)
    async def _field_error(request: Request, error: FieldError) -> JSONResponse:
        return ApiError(400, str(error), param=error.param).response(request.url.path)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            routes = ", ".join(sorted(request.app.openapi()["paths"]))
            return ApiError(404, f"there is no such route; there are {routes}").response(request.url.path)
        return ApiError(error.status_code, str(error.detail), headers=error.headers).response(request.url.path)
