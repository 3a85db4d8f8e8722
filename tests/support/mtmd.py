"""libmtmd, llama.cpp's own reader of mmproj files, through the bindings of llama-cpp-python and without a context."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import TracebackType
from typing import Any

import llama_cpp
import llama_cpp.mtmd_cpp as m
import numpy as np
from numpy.typing import NDArray

_IGNORE_LOG = llama_cpp.llama_log_callback(lambda level, text, data: None)
"""Of the module: both libraries keep the pointer. One that dies with its owner crashes the next load of a model."""


class Mtmd:
    """An opened mmproj file beside the text model it belongs to, of which the vocabulary is read."""

    def __init__(self, mmproj: Path, text_model: Path, *, threads: int = 1) -> None:
        llama_cpp.llama_log_set(_IGNORE_LOG, ctypes.c_void_p(0))
        m.mtmd_log_set(_IGNORE_LOG, ctypes.c_void_p(0))
        model = llama_cpp.llama_model_default_params()
        model.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(str(text_model).encode(), model)
        params = m.mtmd_context_params_default()
        params.use_gpu = False
        params.print_timings = False
        params.warmup = False
        params.n_threads = threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        # Sides that are whole cells are left as they are then.
        params.image_min_tokens, params.image_max_tokens = 1, 4096
        self._context = m.mtmd_init_from_file(str(mmproj).encode(), self._model, params)
        assert self._context, f"libmtmd refuses {mmproj}"

    def __enter__(self) -> Mtmd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        m.mtmd_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def encode(self, image: NDArray[np.uint8], n_embd: int) -> NDArray[np.float32]:
        """Rows [rows * (columns + 1) - 1, n_embd] of uint8 pixels whose sides are whole cells; separators between."""
        image = np.ascontiguousarray(image)
        pixels = image.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = m.mtmd_bitmap_init(image.shape[1], image.shape[0], pixels)
        chunks = m.mtmd_input_chunks_init()
        marker = m.mtmd_default_marker()
        text = m.mtmd_input_text(marker, len(marker), False, True)
        try:
            bitmaps = (m.mtmd_bitmap_p_ctypes * 1)(bitmap)
            assert m.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1) == 0
            return self._rows_of(chunks, n_embd)
        finally:
            m.mtmd_bitmap_free(bitmap)
            m.mtmd_input_chunks_free(chunks)

    def _rows_of(self, chunks: Any, n_embd: int) -> NDArray[np.float32]:
        for i in range(m.mtmd_input_chunks_size(chunks)):
            chunk = m.mtmd_input_chunks_get(chunks, i)
            if m.mtmd_input_chunk_get_type(chunk) != m.MTMD_INPUT_CHUNK_TYPE_TEXT:
                assert m.mtmd_encode_chunk(self._context, chunk) == 0
                n = m.mtmd_input_chunk_get_n_tokens(chunk)
                return np.ctypeslib.as_array(m.mtmd_get_output_embd(self._context), (n, n_embd)).copy()
        raise AssertionError("no chunk is an image")


def without_separators(rows: NDArray[np.float32], columns: int, n_rows: int) -> NDArray[np.float32]:
    """The cells alone: [columns * n_rows, n_embd]."""
    padded = np.concatenate([rows, rows[:1]]).reshape(n_rows, columns + 1, -1)
    return padded[:, :columns].reshape(n_rows * columns, -1)
