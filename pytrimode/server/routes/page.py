"""The page at `/`: files of the package, under a policy that lets the browser load nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pytrimode.server.errors import ApiError

if TYPE_CHECKING:
    from importlib.abc import Traversable

router = APIRouter(include_in_schema=False)

PAGE = "/page/"
"""Where its files are; they need no key, the API that they call does."""
_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}
_NOT_SERVED = {"vendoring"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "font-src 'self'; manifest-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify pytrimode",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Kept by the browser, asked for anew each time: a new version of pytrimode shows at once.
    "Cache-Control": "no-cache",
}  # fmt: skip


@router.get("/")
async def page(request: Request) -> Response:
    """Return the chat client."""
    return _file(request, "index.html")


@router.get(PAGE + "{name:path}")
async def part(request: Request, name: str) -> Response:
    """Return a style sheet or a module of it."""
    return _file(request, name)


def _file(request: Request, name: str) -> Response:
    if name not in _files():
        raise ApiError(404, "the page has no such file")
    content, tag = _files()[name]
    headers = {**_HEADERS, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_TYPES[name.rsplit(".", 1)[1]], headers=headers)


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Content and tag of each file by its name. No other path is ever opened."""
    return dict(_below(files("pytrimode.server") / "page", ""))


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, tuple[bytes, str]]]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in _NOT_SERVED:
            yield from _below(entry, f"{prefix}{entry.name}/")
        elif entry.is_file() and entry.name.rsplit(".", 1)[-1] in _TYPES:
            content = entry.read_bytes()
            yield prefix + entry.name, (content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
