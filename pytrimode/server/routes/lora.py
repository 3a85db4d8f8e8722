"""The LoRA adapters, as llama-server has them: /lora-adapters."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from pytrimode.server.errors import from_exception
from pytrimode.server.schema import LoraScale

router = APIRouter()


@router.get("/lora-adapters")
async def lora_adapters(request: Request) -> list[dict[str, Any]]:
    """Return the adapters that are loaded, and the scales of requests that name none."""
    model = request.app.state.host.ready.model
    pairs = zip(model.loras, model.lora_scales, strict=True)
    return [{"id": number, "path": path, "scale": scale} for number, (path, scale) in enumerate(pairs)]


@router.post("/lora-adapters")
async def set_lora_adapters(request: Request, body: list[LoraScale]) -> dict[str, bool]:
    """Set the scales of requests that name none, from now on; adapters that are not named are off."""
    try:
        request.app.state.host.ready.model.set_lora_scales(body)
    except ValueError as error:
        raise from_exception(error) from None
    return {"success": True}
