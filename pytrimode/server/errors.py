"""Errors as clients see them: OpenAI's body with llama-server's types and codes, never a stack trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

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

    def response(self) -> JSONResponse:
        """Return the whole HTTP response."""
        return JSONResponse(self.body, self.status, self.headers)


def not_supported(name: str) -> ApiError:
    """Return a field of the API that the server knows and cannot honour."""
    return ApiError(400, f"{name} is not supported yet", param=name)


def from_exception(error: Exception) -> ApiError:
    """Return what a client is told of an exception; a ValueError is about the request, its text is for the client."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UnicodeError):
        return ApiError(400, "the request has text that is not Unicode (a lone surrogate)")
    # The sampler finds out only while it runs that a grammar leaves no token.
    if isinstance(error, ValueError) or (isinstance(error, RuntimeError) and str(error).startswith("grammar")):
        return ApiError(400, str(error))
    return ApiError(500, "internal error; the server's log has more under this request's id")


def _of_validation(error: RequestValidationError) -> ApiError:
    """Without the values, which may be long."""
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {found[0].get('ctx', {}).get('error', 'invalid')}")
    lines = []
    for detail in found[:_DETAILS_SHOWN]:
        name = ".".join(str(part) for part in detail["loc"] if part != "body")
        lines.append(f"{name}: {detail['msg']}" if name else detail["msg"])
    if len(found) > _DETAILS_SHOWN:
        lines.append(f"and {len(found) - _DETAILS_SHOWN} more")
    location = list(found[0]["loc"]) if found else []
    param = location[1] if len(location) > 1 and isinstance(location[1], str) else None
    return ApiError(400, "; ".join(lines), param=param)


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _of_validation(error).response()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        return ApiError(error.status_code, str(error.detail), headers=error.headers).response()
