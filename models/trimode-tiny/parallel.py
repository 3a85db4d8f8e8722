"""Data-parallel training in one-thread processes: on a busy CPU faster than threads, which wait for each other."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor


def rank() -> int:
    """Number of this process, 0 if there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def run(worker: Callable, processes: int, *args) -> None:
    """Call worker(*args) in `processes` processes that form a group; the last group fails as a whole."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(_enter, (processes, port, worker, args), nprocs=processes)


def _enter(index: int, processes: int, port: int, worker: Callable, args: tuple) -> None:
    """Join the group, then work."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=index, world_size=processes)
    worker(*args)
    dist.barrier()
    dist.destroy_process_group()


def mean_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace every gradient by its mean over the processes (one all-reduce of all of them)."""
    if world() == 1:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    flat /= world()
    for g, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        g.copy_(part.view_as(g))


def shared_map(function: Callable[[Tensor], Tensor], stack: Tensor) -> Tensor:
    """function(stack), each process doing an equal part of dim 0 (all of it if it does not divide)."""
    n = world()
    if n == 1 or stack.shape[0] % n:
        return function(stack)
    part = function(stack.chunk(n)[rank()].contiguous()).contiguous()
    parts = [torch.empty_like(part) for _ in range(n)]
    dist.all_gather(parts, part)
    return torch.cat(parts)
