"""What the model's file says of its size, for `/v1/models`."""

from __future__ import annotations

from functools import cache
from typing import Any

from pytrimode.files.file_info import file_info


@cache
def file_figures(file: str) -> dict[str, Any]:
    """Return `n_params`, `size` in bytes, and `ftype`, the type of most weights, as llama-server names them."""
    info = file_info(file)
    types = info["tensor_types"]
    return {
        "n_params": info["n_params"],
        "size": sum(kind["bytes"] for kind in types),
        "ftype": types[0]["type"].upper() if types else "",
    }
