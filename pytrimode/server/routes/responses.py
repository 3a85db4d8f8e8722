"""OpenAI's Responses API."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pytrimode.server.apis.responses.form import ResponsesForm
from pytrimode.server.apis.responses.request import chat_request
from pytrimode.server.apis.responses.schema import ResponsesRequest
from pytrimode.server.routes.sending import STREAMED, send

router = APIRouter()


@router.post("/v1/responses", responses=STREAMED)
@router.post("/responses", include_in_schema=False)
async def responses(request: Request, body: ResponsesRequest) -> Response:
    """Answer a conversation of items."""
    return await send(request, chat_request(body), lambda ready, _: ResponsesForm(ready.name, body))
