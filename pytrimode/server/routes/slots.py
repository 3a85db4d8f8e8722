"""Saving, restoring and erasing what the cache holds of a slot, as llama-server does."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

from fastapi import APIRouter, Request

from pytrimode.server.errors import ApiError
from pytrimode.server.fields import FieldError
from pytrimode.server.host import Host
from pytrimode.server.schema import Body
from pytrimode.server.slot_files import Held, SlotFiles

router = APIRouter()


class SlotRequest(Body):
    """`POST /slots/ID?action=...`; erasing needs no name."""

    filename: str | None = None


@router.post("/slots/{id_slot}")
async def change_slot(
    request: Request, id_slot: int, action: Literal["save", "restore", "erase"], body: SlotRequest | None = None
) -> dict[str, Any]:
    """Save, restore or erase the tokens of a slot's last request."""
    host: Host = request.app.state.host
    ready = host.ready
    folder = host.settings.slot_save_path
    if folder is None:
        raise ApiError(501, "this server saves no slots: start it with --slot-save-path")
    desk = ready.desk
    if not 0 <= id_slot < len(desk.slots):
        raise ApiError(400, f"there is no slot {id_slot}: they are numbered from 0 to {len(desk.slots) - 1}")
    if desk.slots[id_slot] is not None:
        raise ApiError(503, f"slot {id_slot} is busy: try again later", headers={"Retry-After": "1"})
    if action == "erase":
        await asyncio.to_thread(ready.model.clear_cache)
        return {"id_slot": id_slot, "n_erased": desk.forget_tokens(id_slot)}
    name = body.filename if body else None
    if name is None:
        raise FieldError("filename is missing", param="filename")
    files, started = SlotFiles(folder, ready.model), time.monotonic()
    if action == "save":
        n_tokens, n_bytes = await asyncio.to_thread(files.save, name, desk.held[id_slot])
        told: dict[str, Any] = {"n_saved": n_tokens, "n_written": n_bytes}
    else:
        tokens, n_bytes = await asyncio.to_thread(files.restore, name)
        desk.held[id_slot] = Held(tokens)
        told = {"n_restored": len(tokens), "n_read": n_bytes}
    milliseconds = round(1e3 * (time.monotonic() - started), 3)
    return {"id_slot": id_slot, "filename": name, **told, "timings": {f"{action}_ms": milliseconds}}
