"""How the server is: /health, /props, /slots, /metrics, as llama-server has them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from pytrimode.gguf import keys
from pytrimode.options.modes import AR, AUTO, MODES, resolve_mode
from pytrimode.server.desk import Task
from pytrimode.server.errors import ApiError
from pytrimode.server.host import Host
from pytrimode.server.metrics import CONTENT_TYPE
from pytrimode.server.options import in_json
from pytrimode.vision.picture import DEFAULT_LIMITS, FORMATS

router = APIRouter()


@router.get("/health")
@router.get("/v1/health", include_in_schema=False)
async def health(request: Request) -> dict[str, str]:
    """Whether the model is loaded: 200, or 503."""
    _ = request.app.state.host.ready
    return {"status": "ok"}


@router.get("/props")
async def props(request: Request) -> dict[str, Any]:
    """Return what is served, and the defaults of a request."""
    host: Host = request.app.state.host
    ready = host.ready
    model = ready.model
    return {
        "default_generation_settings": {"n_ctx": model.n_ctx, "params": in_json(host.settings.defaults)},
        "total_slots": model.n_parallel,
        "model_path": model.model_path,
        "model_alias": ready.name,
        "chat_template": model.metadata.get(keys.CHAT_TEMPLATE, ""),
        "modalities": {"vision": model.vision is not None, "audio": False},
        "build_info": f"pytrimode {version('pytrimode')}",
        "is_sleeping": False,
        "modes": [AUTO, *MODES] if model.mask_token_id >= 0 else [AUTO, AR],
        "lora_rank": model.lora_rank,
        "example_prompts": [line for line in model.metadata.get(keys.EXAMPLE_PROMPTS, "").split("\n") if line],
        **({"image_max_side": model.vision.max_side, "image_limits": _image_limits()} if model.vision else {}),
    }


@router.get("/slots")
async def slots(request: Request, fail_on_no_slot: bool = False) -> list[dict[str, Any]]:
    """Return what each slot does; 503 with `?fail_on_no_slot=1` when none is free."""
    host: Host = request.app.state.host
    model = host.ready.model
    slots = host.desk.slots
    if fail_on_no_slot and None not in slots:
        raise ApiError(503, "no slot available")
    return [_describe(i, task, model.n_ctx, has_mask=model.mask_token_id >= 0) for i, task in enumerate(slots)]


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    host: Host = request.app.state.host
    return Response(host.metrics.text(), media_type=CONTENT_TYPE)


def _image_limits() -> dict[str, Any]:
    """Return what a picture may be: bytes of its file, pixels by its header, how many in a request, file formats."""
    limits = DEFAULT_LIMITS
    return {
        "bytes": limits.max_bytes, "pixels": limits.max_pixels, "count": limits.max_images, "formats": list(FORMATS),
    }  # fmt: skip


def _describe(slot: int, task: Task | None, n_ctx: int, *, has_mask: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": slot,
        "id_task": task.number if task else -1,
        "n_ctx": n_ctx,
        "is_processing": task is not None,
    }
    if task:
        described["speculative"] = resolve_mode(task.options.mode, has_mask=has_mask) != AR
        described["n_prompt_tokens"] = task.n_prompt
        described["params"] = in_json(task.options)
        described["next_token"] = {"has_next_token": True, "n_decoded": task.n_decoded}
    return described
