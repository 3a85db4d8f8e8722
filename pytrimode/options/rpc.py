"""Servers of ggml's RPC backend, whose devices hold layers of a model: `--rpc HOST:PORT`."""

from __future__ import annotations

import socket

from pytrimode import _native

DEFAULT_PORT = 50052
"""llama.cpp's."""
_SECONDS = 5.0
"""To wait for a server: ggml itself would end the process where none answers."""


def add_rpc_server(address: str) -> None:
    """Add a server's devices to those of this process, once; layers go to them as to a GPU's.

    Raises ValueError for what is no address, RuntimeError where no server answers or this build has no RPC backend.
    """
    host, port = parse_address(address)
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError as error:
        raise RuntimeError(
            f"rpc {address}: no server answers there ({error.strerror or error}); on that machine: "
            f"pytrimode rpc-server --host ADDRESS --port {port}"
        ) from None
    _native.add_rpc_server(f"{host}:{port}")


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT or HOST. Raises ValueError."""
    host, _, port = address.rpartition(":") if ":" in address else (address, "", str(DEFAULT_PORT))
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"rpc {address!r}: expected HOST:PORT")
    return host, int(port)
