"""Tokens per second: plain decoding against llama-cpp-python, cycles with published acceptance, crowds, prefill."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_suite.engines import Engines, submit
from gpu_suite.models import TINY, model_file
from gpu_suite.record import Context

PROMPT = 256
BLOCKS = (4, 8, 16, 32)
CROWDS = (1, 4, 8, 16, 32)
PREFILLS = (512, 4096, 32768)
SECONDS = 4.0
"""For which a mode decodes at most."""


def modes(context: Context, shape: str, type: str) -> None:
    """Record tokens/s of one request in each mode, drafts accepted by lot at the published rates."""
    engines = Engines(context, shape, type)
    rates = _published(shape)
    settings: list[tuple[str, dict[str, Any], dict[str, Any]]] = [("ar", {"mode": "ar"}, {})]
    settings += [("diffusion, each pass", {"mode": "diffusion", "block_length": 32, "threshold": 1.0}, {})]
    settings += [
        ("auto", {"block_length": 0}, {}),
        ("auto, fusing measured", {"block_length": 0, "fusing": "measured"}, {}),
    ]
    settings += [(f"self-spec {b}", {"block_length": b}, {}) for b in BLOCKS]
    settings += [(f"fused {b}", {"block_length": b, "fusing": "always"}, {}) for b in BLOCKS[1:]]
    settings += [(f"auto, exact_rows {n}", {"block_length": 0}, {"exact_rows": n}) for n in (8, 16, 32)]
    for name, options, engine_options in settings[: 3 if context.small else None]:
        engine = engines.engine(n_ctx=2048, **engine_options)
        if "mode" not in options:
            options |= {"mode": "self-spec"} | rates
        _decode(
            engine, engines.tokens(PROMPT), 8 if context.small else 64, options
        )  # graphs are built, `auto` has looked around
        begin = engine.times
        event = _decode(engine, engines.tokens(PROMPT), 8 if context.small else 400, options)
        spent = {k: v - begin[k] for k, v in engine.times.items()}
        stats = event.stats
        context.record(
            "mode",
            shape=shape,
            type=type,
            mode=name,
            simulated="simulated_acceptance" in options,
            tokens_per_second=stats.completion_tokens / stats.generation_seconds,
            tokens_per_forward=stats.completion_tokens / max(stats.forward_passes, 1),
            ms_per_pass=1e3 * stats.generation_seconds / max(stats.forward_passes, 1),
            outside_the_graph=1 - stats.compute_seconds / stats.generation_seconds,
            graphs=spent["graphs"],
        )
        if context.left() <= 0:
            return


def stock(context: Context, shape: str, type: str) -> None:
    """Record llama-cpp-python's tokens/s, one after the other by argmax as `ar` does, and its prefill."""
    import llama_cpp
    import numpy as np
    from gpu_suite.llama_decode import LlamaDecode

    prefills = PREFILLS[:1] if context.small else PREFILLS
    llama = LlamaDecode(model_file(context, shape, type), max(prefills) + 512)
    n = 16 if context.small else 200
    tokens = [130 + (i * 7919) % 100_000 % (llama.n_vocab - 200) for i in range(max(prefills))]
    llama.prefill(tokens[:PROMPT])
    token, begin = tokens[0], 0.0
    for i in range(n + 3):
        begin = time.perf_counter() if i == 3 else begin
        llama.decode([token], PROMPT + i)
        row = llama_cpp.llama_get_logits_ith(llama._context, 0)
        token = int(np.ctypeslib.as_array(row, (llama.n_vocab,)).argmax())
    context.record("llama ar", shape=shape, type=type, tokens_per_second=n / (time.perf_counter() - begin))
    for length in prefills:
        llama.forget(0)
        begin = time.perf_counter()
        llama.prefill(tokens[:length])
        context.record(
            "llama prefill",
            shape=shape,
            type=type,
            tokens=length,
            tokens_per_second=length / (time.perf_counter() - begin),
        )
        if context.left() <= 0:
            return


def prefill(context: Context, shape: str, type: str) -> None:
    """Record tokens/s of prompts, from an empty cache, time after time: the first loads kernels, the second records
    graphs, the last replays them. And where the milliseconds of its passes go.
    """
    engines = Engines(context, shape, type)
    for length in PREFILLS[:1] if context.small else PREFILLS:
        engine = engines.engine(n_ctx=length + 256)
        for time_ in range(2 if context.small else 4):
            engine.clear_cache()
            before = engine.times
            event = _decode(engine, engines.tokens(length), 1, {"mode": "ar"})
            spent = {k: v - before[k] for k, v in engine.times.items()}
            parts = {f"{k}_ms": 1e3 * spent[k] / spent["passes"] for k in ("inputs", "compute", "outputs", "build")}
            context.record(
                "prefill",
                shape=shape,
                type=type,
                tokens=length,
                time=time_ + 1,
                tokens_per_second=length / event.stats.prompt_seconds,
                passes=spent["passes"],
                **parts,
            )
            if context.left() <= 0:
                return


def crowd(context: Context, shape: str, type: str, cells: int = PROMPT) -> None:
    """Record tokens/s of several requests together, each behind a prompt of its own."""
    engines = Engines(context, shape, type)
    rates = _published(shape)
    n_tokens = 8 if context.small else 64
    for n in CROWDS[:2] if context.small else CROWDS:
        for name, options in (
            ("ar", {"mode": "ar"}),
            ("self-spec 8", {"mode": "self-spec", "block_length": 8} | rates),
        ):
            engine = engines.engine(n_ctx=n * (cells + n_tokens + 128), n_parallel=n)
            prompts = [engines.tokens(cells + i)[i:] for i in range(n)]
            together = {"ignore_eos": True, "loop_window": 0} | options
            # Their prompts are read, and graphs recorded, before the clock starts.
            for length in (1, n_tokens):
                for i in [submit(engine, prompt, max_tokens=length, **together) for prompt in prompts]:
                    engine.wait_to_end(i)
            begin, before = time.perf_counter(), engine.times
            ids = [submit(engine, prompt, max_tokens=n_tokens, **together) for prompt in prompts]
            events = [engine.wait_to_end(i) for i in ids]
            seconds = time.perf_counter() - begin
            passes = engine.times["passes"] - before["passes"]
            tokens = sum(event.stats.completion_tokens for event in events)
            context.record(
                "crowd",
                shape=shape,
                type=type,
                requests=n,
                mode=name,
                cells=cells,
                tokens_per_second=tokens / seconds,
                passes=passes,
            )
            if context.left() <= 0:
                return


def server(context: Context, type: str = "q8_0") -> None:
    """Record what benchmarks/server_overhead.py prints, where the server's libraries are."""
    missing = [name for name in ("fastapi", "uvicorn") if not importlib.util.find_spec(name)]
    if missing:
        context.record("server overhead", ok=None, found=f"not run: {', '.join(missing)} is not installed")
        return
    script = Path(__file__).resolve().parents[2] / "benchmarks/server_overhead.py"
    command = [sys.executable, str(script), str(model_file(context, "tiny", type)), "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=max(context.left(), 10), check=False)
    context.record("server overhead", ok=done.returncode == 0, found=(done.stdout + done.stderr[-500:]).strip())


def _decode(engine: Any, prompt: list[int], n_tokens: int, options: dict[str, Any]) -> Any:
    return engine.wait_to_end(submit(engine, prompt, max_tokens=n_tokens, ignore_eos=True, loop_window=0, **options))


def _published(shape: str) -> dict[str, Any]:
    """Return what makes the engine accept drafts at published rates; none for the shipped checkpoint, which has its
    own.
    """
    if shape == TINY:
        return {}
    from pytrimode.bench.acceptance import published

    return published(shape).engine_arguments()
