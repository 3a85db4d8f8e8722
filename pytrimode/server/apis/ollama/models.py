"""The model as Ollama describes it."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from pytrimode.files.file_info import file_info
from pytrimode.gguf import keys
from pytrimode.server.prompts import Object
from pytrimode.trimode import TriMode

API_VERSION = "0.12.11"
"""The version of Ollama whose API this is: clients refuse servers that say they are older than they need."""
NEVER = "9999-12-31T23:59:59Z"


def listed(name: str, model: TriMode) -> Object:
    """Return the model as `/api/tags` lists it. The digest is one of the file's name, size and time."""
    file = Path(model.model_path)
    about = file.stat()
    identity = f"{file.name} {about.st_size} {about.st_mtime_ns}"
    return {
        "name": name,
        "model": name,
        "modified_at": _time(about.st_mtime),
        "size": about.st_size,
        "digest": hashlib.sha256(identity.encode()).hexdigest(),
        "details": _details(str(file)),
    }


def running(name: str, model: TriMode) -> Object:
    """Return the model as `/api/ps` lists it."""
    return {**listed(name, model), "expires_at": NEVER, "context_length": model.n_ctx}


def described(model: TriMode) -> Object:
    """Return what `/api/show` tells; the context is the server's, not the file's."""
    template = model.metadata.get(keys.CHAT_TEMPLATE, "")
    architecture = model.metadata[keys.GENERAL_ARCHITECTURE]
    info: dict[str, Any] = {
        name: int(value) if value.isdigit() else value
        for name, value in model.metadata.items()
        if not name.startswith("tokenizer.")
    }
    details = _details(model.model_path)
    info |= {
        f"{architecture}.context_length": model.n_ctx,
        "general.parameter_count": _info(model.model_path)["n_params"],
    }
    capabilities = ["completion"]
    if template:
        capabilities += ["tools"]
    if "enable_thinking" in template:
        capabilities += ["thinking"]
    if model.mask_token_id >= 0:
        capabilities += ["insert"]
    if model.vision:
        capabilities += ["vision"]
    return {
        "modelfile": "",
        "parameters": "",
        "template": template,
        "details": details,
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": _time(Path(model.model_path).stat().st_mtime),
    }


@cache
def _info(file: str) -> dict[str, Any]:
    return file_info(file)


def _details(file: str) -> Object:
    info = _info(file)
    return {
        "parent_model": "",
        "format": "gguf",
        "family": info["architecture"],
        "families": [info["architecture"]],
        "parameter_size": info["size_label"] or f"{info['n_params'] / 1e9:.1f}B",
        "quantization_level": info["tensor_types"][0]["type"].upper(),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")
