"""Stock llama.cpp through llama-cpp-python's low-level bindings. In a process without our engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import llama_cpp

BATCH = 512


class LlamaDecode:
    """A model with all layers on the first device, flash attention on."""

    def __init__(self, path: Path, n_ctx: int) -> None:
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 999
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, BATCH, BATCH
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError(f"llama.cpp has no room for {n_ctx} cells beside {path.name}")
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def decode(self, tokens: Sequence[int], position: int, all_logits: bool = True) -> None:
        """One pass; returns when the device is done and the logits are here."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, position + i, 1, 0
            batch.logits[i] = all_logits or i + 1 == len(tokens)
        if llama_cpp.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        llama_cpp.llama_synchronize(self._context)

    def prefill(self, tokens: Sequence[int]) -> None:
        """All of them, in passes of `BATCH` rows."""
        for begin in range(0, len(tokens), BATCH):
            self.decode(tokens[begin : begin + BATCH], begin, all_logits=False)

    def forget(self, position: int) -> None:
        """Drop the cells from a position on."""
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(self._context), 0, position, -1)
