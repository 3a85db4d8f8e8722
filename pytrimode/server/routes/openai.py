"""OpenAI's routes."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pytrimode.server.errors import ApiError
from pytrimode.server.file_figures import file_figures
from pytrimode.server.form import OpenAiForm
from pytrimode.server.host import Ready
from pytrimode.server.routes.sending import STREAMED, send
from pytrimode.server.schema import ChatCompletionRequest, CompletionRequest, GenerationFields

router = APIRouter()


@router.post("/v1/chat/completions", responses=STREAMED)
@router.post("/chat/completions", include_in_schema=False)
async def chat_completions(request: Request, body: ChatCompletionRequest) -> Response:
    """Answer a conversation."""
    return await send(request, body, lambda *_: _form(body))


@router.post("/v1/completions", responses=STREAMED)
@router.post("/completions", include_in_schema=False)
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Continue a prompt, or several."""
    return await send(request, body, lambda *_: _form(body))


@router.get("/v1/models")
@router.get("/models", include_in_schema=False)
async def models(request: Request) -> dict[str, Any]:
    """Return the model, in Anthropic's shape to those who name a version of their API."""
    described = _describe(request)
    if _is_anthropics(request):
        return {"data": [described], "has_more": False, "first_id": described["id"], "last_id": described["id"]}
    return {"object": "list", "data": [described]}


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> dict[str, Any]:
    """Return the model, if that is its name."""
    ready: Ready = request.app.state.host.ready
    if name != ready.name:
        raise ApiError(404, f"this server has the model {ready.name}", param="model")
    return _describe(request)


@router.post("/v1/embeddings", include_in_schema=False)
@router.post("/embeddings", include_in_schema=False)
async def embeddings(request: Request) -> Response:
    """None: the model is made to write."""
    raise ApiError(501, "this model makes no embeddings: it writes text, at /v1/chat/completions and /v1/completions")


def _form(body: GenerationFields) -> OpenAiForm:
    return OpenAiForm(include_usage=bool(body.stream_options and body.stream_options.include_usage))


def _is_anthropics(request: Request) -> bool:
    return "anthropic-version" in request.headers


def _describe(request: Request) -> dict[str, Any]:
    ready: Ready = request.app.state.host.ready
    model = ready.model
    if _is_anthropics(request):
        created = datetime.fromtimestamp(ready.created, timezone.utc).isoformat().replace("+00:00", "Z")
        return {"type": "model", "id": ready.name, "display_name": ready.name, "created_at": created}
    return {
        "id": ready.name,
        "object": "model",
        "created": ready.created,
        "owned_by": "pytrimode",
        "capabilities": ["completion", *(["multimodal"] if model.vision else [])],
        "meta": {
            "n_vocab": model.n_vocab,
            "n_ctx": model.n_ctx,
            "n_ctx_train": model.n_ctx_train,
            **file_figures(model.model_path),
        },
    }
