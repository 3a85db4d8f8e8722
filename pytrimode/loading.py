"""Files on disk to a native model and its engine."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytrimode import _native
from pytrimode.files import model_file, tuning_cache
from pytrimode.files.tuning_cache import TuningCache
from pytrimode.options.defaults import DEFAULT_N_CTX, EXACT_ROWS
from pytrimode.options.gpu_layers import resolve_gpu_layers, telling_what_fits, warn_of_slow_operations
from pytrimode.options.load_options import LoadOptions
from pytrimode.options.loras import Lora, loras_of
from pytrimode.options.rpc import add_rpc_server
from pytrimode.process import check_not_forked
from pytrimode.threads import default_threads
from pytrimode.vision.load import tower_device
from pytrimode.vision.memory import reserved_for

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """What was loaded, and how."""

    file: Path
    model: _native.Model
    engine: _native.Engine
    lora_path: str | None
    loras: tuple[Lora, ...]
    tower: Path | None
    """The file of the vision tower, which is not loaded yet."""
    n_gpu_layers: int
    """-1: all."""
    n_threads: int
    n_threads_batch: int
    tuning: TuningCache | None
    """Where what the engine measures is kept."""


def open_files(path: str | Path, asked: LoadOptions) -> Opened:
    """Load a model, its LoRAs and an engine. Raises as `TriMode`."""
    check_not_forked()
    file = model_file.check_model_file(path)
    lora = model_file.find_drafter_lora(file, asked.lora_path)
    tower = model_file.find_mmproj(file, asked.mmproj)
    loras = [Lora(str(model_file.check_model_file(one.path)), one.scale) for one in loras_of(asked.loras)]
    adapters = [one.path for one in loras]
    model_file.preflight(file, lora, tower, adapters)
    _native.set_log_file(str(asked.log_file or ""))
    _native.set_log_verbose(asked.verbose or asked.log_file is not None)
    for server in asked.rpc or ():
        add_rpc_server(server)
    lora_path = str(lora) if lora else None
    n_threads = asked.n_threads or default_threads()
    n_threads_batch = asked.n_threads_batch or n_threads
    devices: dict[str, Any] = {
        "split_mode": asked.split_mode, "main_gpu": asked.main_gpu, "tensor_split": list(asked.tensor_split or [])
    }  # fmt: skip
    sizes: dict[str, Any] = {
        "n_batch": asked.n_batch, "n_parallel": asked.n_parallel, "type_k": asked.type_k, "type_v": asked.type_v,
        "flash_attn": asked.flash_attn,
    }  # fmt: skip
    needs = {"n_ctx": asked.n_ctx, "default_ctx": DEFAULT_N_CTX, "lora_path": lora_path, **sizes, **devices}
    needs["adapters"] = adapters
    needs["reserved"] = reserved_for(tower, tower_device(-1, asked.main_gpu), asked.image_max_side)
    n_gpu_layers = resolve_gpu_layers(asked.n_gpu_layers, file, **needs)
    with telling_what_fits(n_gpu_layers, file, **needs):
        model = _native.Model(
            str(file),
            lora_path=lora_path,
            adapters=adapters,
            n_gpu_layers=n_gpu_layers,
            use_mmap=asked.use_mmap,
            repack=asked.repack,
            **devices,
        )
        engine = _native.Engine(
            model,
            n_ctx=asked.n_ctx or min(model.n_ctx_train, DEFAULT_N_CTX),
            n_ubatch=asked.n_ubatch,
            max_queue=-1 if asked.max_queue is None else asked.max_queue,
            n_threads=n_threads,
            n_threads_batch=n_threads_batch,
            fewer_threads=not asked.n_threads and n_gpu_layers == 0,
            images=tower is not None,
            exact_rows=min(EXACT_ROWS, asked.n_batch) if asked.exact else 0,
            **sizes,
        )
        if asked.use_mlock:
            _lock(model)
    warn_of_slow_operations(engine)
    tuning = None
    if asked.tuning_cache and not tuning_cache.switched_off():
        how = {"n_gpu_layers": n_gpu_layers, "n_threads": n_threads, "rpc": asked.rpc, **devices}
        how |= {name: getattr(asked, name) for name in ("type_k", "type_v", "flash_attn", "exact", "repack")}
        tuning = TuningCache(tuning_cache.key_of([file, *([lora] if lora else []), *adapters], **how))
        tuning.restore(engine)
    return Opened(file, model, engine, lora_path, tuple(loras), tower, n_gpu_layers, n_threads, n_threads_batch, tuning)


def _lock(model: _native.Model) -> None:
    """Keep the weights in main memory, or log why the system does not."""
    try:
        model.lock()
    except RuntimeError as error:
        _log.warning("%s", error)
