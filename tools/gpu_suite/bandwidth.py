"""How fast memory is: a copy of some hundred megabytes, by the card's own copy or, without one, in main memory."""

from __future__ import annotations

import ctypes
import ctypes.util
import time

import numpy as np
from gpu_suite.record import Context

DEVICE_TO_DEVICE = 3  # cudaMemcpyDeviceToDevice


def copy_bandwidth(context: Context) -> None:
    """Record bytes read and written per second. A pass over the weights reads only, and may reach a little more."""
    n = (64 if context.small else 2048) << 20
    cuda = None if context.small else _cuda_runtime()
    seconds = _on_card(context, cuda, n) if cuda else _in_main_memory(context, n)
    where = "card" if cuda else "main memory"
    context.record("memory bandwidth", where=where, gb_per_second=2 * n / min(seconds) / 1e9, bytes=n, n=len(seconds))


def _cuda_runtime() -> ctypes.CDLL | None:
    for name in ("libcudart.so.13", "libcudart.so.12", ctypes.util.find_library("cudart")):
        try:
            return ctypes.CDLL(name) if name else None
        except OSError:
            continue
    return None


def _on_card(context: Context, cuda: ctypes.CDLL, n: int) -> list[float]:
    source, target = ctypes.c_void_p(), ctypes.c_void_p()
    for pointer in (source, target):
        _check(cuda.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(n)))

    def copy() -> float:
        _check(cuda.cudaDeviceSynchronize())
        begin = time.perf_counter()
        for _ in range(4):
            _check(cuda.cudaMemcpyAsync(target, source, ctypes.c_size_t(n), DEVICE_TO_DEVICE, None))
        _check(cuda.cudaDeviceSynchronize())
        return (time.perf_counter() - begin) / 4

    seconds = context.repeat(copy, 10)
    for pointer in (source, target):
        _check(cuda.cudaFree(pointer))
    return seconds


def _check(code: int) -> None:
    if code != 0:
        raise RuntimeError(f"the CUDA runtime answers {code}")


def _in_main_memory(context: Context, n: int) -> list[float]:
    source, target = np.ones(n // 8), np.zeros(n // 8)

    def copy() -> float:
        begin = time.perf_counter()
        np.copyto(target, source)
        return time.perf_counter() - begin

    return context.repeat(copy, 5, warm_up=1)
