"""Memory: plan against what is taken, what is said where none is left; partial offload; the host's part of a pass."""

from __future__ import annotations

from typing import Any

from gpu_suite.engines import Engines, submit
from gpu_suite.models import model_file
from gpu_suite.record import Context

HUGE_CONTEXT = 16_000_000
GIB = 1 << 30


def plan(context: Context, shape: str, type: str, n_ctx: int) -> None:
    """Record planned bytes, those that the engine says it has, and by how much the device's free memory fell."""
    from pytrimode import _native

    path = model_file(context, shape, type)
    free = _free(context.device)
    engines = Engines(context, shape, type)
    planned = _native.plan_memory(str(path), lora_path=_lora(path), n_ctx=n_ctx, **engines.where)
    on_device = next(entry for entry in planned if entry["device"] == context.device)
    engine = engines.engine(n_ctx=n_ctx)
    for rows in (1, 8, 16, 32):
        engine.logits(engines.tokens(512 + rows), first=512)
    context.record(
        "memory",
        shape=shape,
        type=type,
        n_ctx=n_ctx,
        planned_gib={k: v / GIB for k, v in on_device.items() if k != "device"},
        engine_gib={k: v / GIB for k, v in engine.memory.items()},
        taken_gib=(free - _free(context.device)) / GIB,
        planned_total_gib=sum(v for k, v in on_device.items() if k != "device") / GIB,
    )


def refusal(context: Context) -> None:
    """Record what is said where a context does not fit. (A server of ggml's RPC backend ends itself instead.)"""
    if context.device.startswith("RPC"):
        context.record("out of memory", ok=None, found="not run on RPC: its server ends itself")
        return
    try:
        Engines(context, "tiny", "q8_0").engine(n_ctx=HUGE_CONTEXT, type_k="f32", type_v="f32")
    except RuntimeError as error:
        context.record("out of memory", ok="MiB" in str(error) or "memory" in str(error), found=str(error))
        return
    context.record("out of memory", ok=None, found=f"{HUGE_CONTEXT:,} cells fit")


def partial_offload(context: Context, shape: str, type: str) -> None:
    """Record milliseconds of an `ar` pass with all, half and none of the layers on the device."""
    n_layer = Engines(context, shape, type).model.n_layer
    for layers in (-1, n_layer // 2, 0):
        engines = Engines(context, shape, type, layers)
        engine = engines.engine(n_ctx=512)
        event = engine.wait_to_end(
            submit(engine, engines.tokens(32), mode="ar", max_tokens=16, ignore_eos=True, loop_window=0)
        )
        stats = event.stats
        ms = 1e3 * stats.generation_seconds / max(stats.forward_passes, 1)
        context.record(
            "offload", shape=shape, type=type, layers=n_layer if layers < 0 else layers, of=n_layer, ms_per_pass=ms
        )
        if context.left() <= 0:
            return


def host_profile(context: Context, shape: str, type: str, variant: str = "", **options: Any) -> None:
    """Record where the microseconds of an `ar` and a self-spec pass go: inputs, graph, outputs, the rest."""
    engines = Engines(context, shape, type)
    engine = engines.engine(n_ctx=1024, **options)
    for mode in ("ar", "self-spec"):
        request = {"mode": mode, "block_length": 8, "ignore_eos": True, "loop_window": 0}
        engine.wait_to_end(submit(engine, engines.tokens(64), max_tokens=32, **request))
        before = engine.times
        engine.wait_to_end(submit(engine, engines.tokens(64), max_tokens=16 if context.small else 200, **request))
        spent = {k: v - before[k] for k, v in engine.times.items()}
        parts = {k: 1e6 * spent[k] / spent["passes"] for k in ("inputs", "compute", "outputs", "build")}
        parts["rest"] = 1e6 * spent["step"] / spent["passes"] - sum(parts.values())
        context.record("host profile, us a pass", shape=shape, type=type, variant=variant, mode=mode, **parts)


def _free(device: str) -> int:
    from pytrimode import _native

    return next(d["memory_free"] for d in _native.devices() if d["name"] == device)


def _lora(path) -> str:
    from pytrimode.convert import lora_path

    return str(lora_path(path))
