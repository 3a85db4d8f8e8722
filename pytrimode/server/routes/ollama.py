"""Ollama's routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from pytrimode.server.apis.llama.answer import NativeAnswer
from pytrimode.server.apis.ollama import models
from pytrimode.server.apis.ollama.form import NDJSON, OllamaForm
from pytrimode.server.apis.ollama.request import chat_request, generate_request
from pytrimode.server.apis.ollama.schema import GenerateRequest, OllamaChatRequest, ShowRequest
from pytrimode.server.error_shapes import OllamaError
from pytrimode.server.errors import ApiError
from pytrimode.server.host import Host, Ready
from pytrimode.server.infill import Around
from pytrimode.server.routes.sending import send
from pytrimode.server.schema import CompletionRequest

router = APIRouter(prefix="/api", responses={"4XX": {"model": OllamaError}, "5XX": {"model": OllamaError}})
_STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {NDJSON: {"schema": {"type": "string"}}}}}


@router.post("/chat", responses=_STREAMED)
async def chat(request: Request, body: OllamaChatRequest) -> Response:
    """Answer a conversation."""
    form = OllamaForm(request.app.state.host.ready.name, chat=True)
    if not body.messages:
        return _nothing(form, body)
    return await send(request, chat_request(body), lambda *_: form, whole_calls=True)


@router.post("/generate", responses=_STREAMED)
async def generate(request: Request, body: GenerateRequest) -> Response:
    """Answer a prompt, or continue it."""
    form = OllamaForm(request.app.state.host.ready.name, chat=False)
    if not body.prompt and not body.suffix and not body.images:
        return _nothing(form, body)
    host: Host = request.app.state.host
    asked, prompts = generate_request(body), host.ready.prompts
    if isinstance(asked, CompletionRequest) and isinstance(asked.prompt, str) and asked.suffix:
        around, n = Around(asked.prompt, asked.suffix), asked.given_options()["max_tokens"]
        before, after = await host.text_work(lambda: prompts.around(around, n))
        asked = asked.model_copy(update={"prompt": before, "suffix": after})
    return await send(request, asked, lambda *_: form, answer=NativeAnswer, whole_calls=True)


@router.get("/tags")
async def tags(request: Request) -> dict[str, Any]:
    """List the model."""
    return {"models": [await _told(request, lambda ready: models.listed(ready.name, ready.model))]}


@router.get("/ps")
async def ps(request: Request) -> dict[str, Any]:
    """List the model as one that runs."""
    return {"models": [await _told(request, lambda ready: models.running(ready.name, ready.model))]}


@router.post("/show")
async def show(request: Request, body: ShowRequest) -> dict[str, Any]:
    """Describe the model."""
    return await _told(request, lambda ready: models.described(ready.model))


@router.get("/version")
async def version() -> dict[str, str]:
    """Return the version of the API."""
    return {"version": models.API_VERSION}


@router.post("/embed", include_in_schema=False)
@router.post("/embeddings", include_in_schema=False)
async def embed() -> Response:
    """None: the model is made to write."""
    raise ApiError(501, "this model makes no embeddings: it writes text, at /api/chat and /api/generate")


async def _told(request: Request, tell: Callable[[Ready], dict[str, Any]]) -> dict[str, Any]:
    """Return what the model's file says. Raises ApiError 503 where it cannot be read any more."""
    host: Host = request.app.state.host
    ready = host.ready
    try:
        return await host.text_work(lambda: tell(ready))
    except OSError:
        raise ApiError(503, "the model's file cannot be read any more") from None


def _nothing(form: OllamaForm, body: OllamaChatRequest | GenerateRequest) -> Response:
    return JSONResponse(form.nothing("unload" if body.unloads else "load"))
