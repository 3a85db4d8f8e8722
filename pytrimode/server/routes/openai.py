"""OpenAI's routes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pytrimode.server.answers import answer
from pytrimode.server.errors import ApiError
from pytrimode.server.form import OpenAiForm
from pytrimode.server.host import Host, Ready
from pytrimode.server.schema import ChatCompletionRequest, CompletionRequest, GenerationFields

router = APIRouter()
_LIGHT_BYTES = 1024
_STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@router.post("/v1/chat/completions", responses=_STREAMED)
@router.post("/chat/completions", include_in_schema=False)
async def chat_completions(request: Request, body: ChatCompletionRequest) -> Response:
    """Answer a conversation."""
    host: Host = request.app.state.host
    ready = host.ready
    prepared = await host.text_work(lambda: ready.prompts.chat(body), **_weight(request, body, template=True))
    return await answer(request, host, prepared, _form(body), stream=bool(body.stream))


@router.post("/v1/completions", responses=_STREAMED)
@router.post("/completions", include_in_schema=False)
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Continue a prompt, or several."""
    host: Host = request.app.state.host
    ready = host.ready
    prepared = await host.text_work(lambda: ready.prompts.completion(body), **_weight(request, body))
    return await answer(request, host, prepared, _form(body), stream=bool(body.stream))


@router.get("/v1/models")
@router.get("/models", include_in_schema=False)
async def models(request: Request) -> dict[str, Any]:
    """Return the model."""
    return {"object": "list", "data": [_describe(request.app.state.host.ready)]}


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> dict[str, Any]:
    """Return the model, if that is its name."""
    ready: Ready = request.app.state.host.ready
    if name != ready.name:
        raise ApiError(404, f"this server has the model {ready.name}", param="model")
    return _describe(ready)


@router.post("/v1/embeddings", include_in_schema=False)
@router.post("/embeddings", include_in_schema=False)
async def embeddings(request: Request) -> Response:
    """None: the model is made to write."""
    raise ApiError(501, "this model makes no embeddings: it writes text, at /v1/chat/completions and /v1/completions")


def _weight(request: Request, body: GenerationFields, *, template: bool = False) -> dict[str, bool]:
    """Whether there is a `grammar` to compile; `light`: neither that nor a template to render, which is a stranger's,
    nor more than a short text: less than half a millisecond."""
    size = int(request.headers.get("content-length", _LIGHT_BYTES + 1))
    grammar = bool(
        body.response_format or any(getattr(body, name, None) for name in ("grammar", "tools", "constraint"))
    )
    return {"light": size <= _LIGHT_BYTES and not grammar and not template, "grammar": grammar}


def _form(body: GenerationFields) -> OpenAiForm:
    return OpenAiForm(include_usage=bool(body.stream_options and body.stream_options.include_usage))


def _describe(ready: Ready) -> dict[str, Any]:
    model = ready.model
    return {
        "id": ready.name,
        "object": "model",
        "created": ready.created,
        "owned_by": "pytrimode",
        "capabilities": ["completion", *(["multimodal"] if model.vision else [])],
        "meta": {"n_vocab": model.n_vocab, "n_ctx": model.n_ctx, "n_ctx_train": model.n_ctx_train},
    }
