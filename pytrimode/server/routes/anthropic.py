"""Anthropic's routes."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pytrimode.server.apis.anthropic.form import MessagesForm
from pytrimode.server.apis.anthropic.request import chat_request
from pytrimode.server.apis.anthropic.schema import CountTokensRequest, MessagesRequest
from pytrimode.server.error_shapes import AnthropicError
from pytrimode.server.host import Host
from pytrimode.server.routes.sending import STREAMED, send, weight

router = APIRouter(responses={"4XX": {"model": AnthropicError}, "5XX": {"model": AnthropicError}})


@router.post("/v1/messages", responses=STREAMED)
@router.post("/messages", include_in_schema=False)
async def messages(request: Request, body: MessagesRequest) -> Response:
    """Answer a conversation."""
    return await send(
        request,
        chat_request(body),
        lambda ready, prepared: MessagesForm(ready.name, len(prepared.asked[0].job.tokens)),
    )


@router.post("/v1/messages/count_tokens")
@router.post("/messages/count_tokens", include_in_schema=False)
async def count_tokens(request: Request, body: CountTokensRequest) -> dict[str, int]:
    """Count the tokens of a prompt."""
    host: Host = request.app.state.host
    prompts, chat = host.ready.prompts, chat_request(body)
    return {"input_tokens": await host.text_work(lambda: prompts.count_tokens(chat), **weight(request, chat))}
