"""llama-server's routes between text and tokens."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from pytrimode.server.host import Host
from pytrimode.server.schema import ApplyTemplateRequest, DetokenizeRequest, TokenizeRequest

router = APIRouter()


@router.post("/tokenize")
async def tokenize(request: Request, body: TokenizeRequest) -> dict[str, Any]:
    """Token ids of a text."""
    host: Host = request.app.state.host
    prompts = host.ready.prompts
    return {"tokens": await host.text_work(lambda: prompts.tokenize(body))}


@router.post("/detokenize")
async def detokenize(request: Request, body: DetokenizeRequest) -> dict[str, str]:
    """Return the text of token ids."""
    host: Host = request.app.state.host
    prompts = host.ready.prompts
    return {"content": await host.text_work(lambda: prompts.detokenize(body))}


@router.post("/apply-template")
async def apply_template(request: Request, body: ApplyTemplateRequest) -> dict[str, str]:
    """Return the prompt that a conversation becomes."""
    host: Host = request.app.state.host
    prompts = host.ready.prompts
    return {"prompt": await host.text_work(lambda: prompts.apply_template(body))}
