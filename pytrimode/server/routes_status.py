"""How the server is: /health, /props, /slots, /metrics, as llama-server has them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from pytrimode.gguf import keys
from pytrimode.options.generation_options import GenerationOptions, option_table
from pytrimode.options.modes import AR, AUTO, MODES, resolve_mode
from pytrimode.server.errors import ApiError
from pytrimode.server.host import Host
from pytrimode.server.metrics import CONTENT_TYPE
from pytrimode.server.runner import Slot

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
        "default_generation_settings": {"n_ctx": model.n_ctx, "params": _params(host.settings.defaults)},
        "total_slots": host.settings.n_parallel,
        "model_path": model.model_path,
        "model_alias": ready.name,
        "chat_template": model.metadata.get(keys.CHAT_TEMPLATE, ""),
        "modalities": {"vision": model.vision is not None, "audio": False},
        "build_info": f"pytrimode {version('pytrimode')}",
        "is_sleeping": False,
        "modes": [AUTO, *MODES] if model.mask_token_id >= 0 else [AUTO, AR],
        "lora_rank": model.lora_rank,
        **({"image_max_side": model.vision.max_side} if model.vision else {}),
    }


@router.get("/slots")
async def slots(request: Request, fail_on_no_slot: bool = False) -> list[dict[str, Any]]:
    """Return what each slot does; 503 with `?fail_on_no_slot=1` when none is free."""
    host: Host = request.app.state.host
    model = host.ready.model
    if fail_on_no_slot and host.runner.processing == host.settings.n_parallel:
        raise ApiError(503, "no slot available")
    return [_describe(slot, model.n_ctx, has_mask=model.mask_token_id >= 0) for slot in host.runner.slots]


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    host: Host = request.app.state.host
    return Response(host.metrics.text(), media_type=CONTENT_TYPE)


def _describe(slot: Slot, n_ctx: int, *, has_mask: bool) -> dict[str, Any]:
    run = slot.run
    described: dict[str, Any] = {
        "id": slot.id,
        "id_task": slot.task,
        "n_ctx": n_ctx,
        "is_processing": run is not None,
    }
    if run:
        described["speculative"] = resolve_mode(run.options.mode, has_mask=has_mask) != AR
        described["n_prompt_tokens"] = run.n_prompt
        described["params"] = _params(run.options)
        described["next_token"] = {"has_next_token": True, "n_decoded": slot.n_decoded}
    return described


def _params(options: GenerationOptions) -> dict[str, Any]:
    """By their names in a request body; without those that a client may have put text into."""
    values = {**vars(options), **vars(options.sampling)}
    return {row.http: values[name] for name, row in option_table().items() if not row.about.private}
