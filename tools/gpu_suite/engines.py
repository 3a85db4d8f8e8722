"""Engines over one model on the device."""

from __future__ import annotations

from typing import Any

from gpu_suite.models import model_file
from gpu_suite.record import Context


def submit(engine: Any, tokens: list[int], **options: Any) -> int:
    """Queue a request with options of the engine, and return its number."""
    from pytrimode import _native

    return int(engine.submit(tokens, _native.RequestOptions(**options)))


class Engines:
    """A model, loaded once with all or some layers on the device."""

    def __init__(self, context: Context, shape: str, outtype: str, n_gpu_layers: int = -1) -> None:
        from pytrimode import _native
        from pytrimode.files.model_file import find_drafter_lora

        self.native = _native
        self.path = model_file(context, shape, outtype)
        self.where = {"n_gpu_layers": n_gpu_layers, "devices": [context.device]}
        self.model = _native.Model(str(self.path), lora_path=str(find_drafter_lora(self.path, "auto")), **self.where)
        self.n_vocab = self.model.n_vocab

    def engine(self, n_ctx: int, **options: Any) -> Any:
        """See `_native.Engine`."""
        return self.native.Engine(self.model, n_ctx=n_ctx, **options)

    def tokens(self, n: int) -> list[int]:
        """So many, always the same, none of them special."""
        return [130 + (i * 7919) % (min(self.n_vocab, 100_000) - 200) for i in range(n)]
