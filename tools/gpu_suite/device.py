"""Which device is measured, and what belongs beside every figure: card, driver, versions, commit."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from second_device import connect_rpc

RPC = "RPC"
"""Stands for a device of ggml's RPC backend, in a process of its own."""
SOFTWARE = "lavapipe"
"""Mesa's software driver, behind ggml's Vulkan backend."""


def prepare(wanted: str | None) -> list[subprocess.Popen[bytes]]:
    """Return what must be there before ggml looks for devices; the processes that were started for it."""
    if wanted == SOFTWARE:
        os.environ["GGML_VK_VISIBLE_DEVICES"] = "0"
    return [connect_rpc()] if wanted == RPC else []


def choose(wanted: str | None, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the device that was asked for, else the first GPU. Ends the program where there is none."""
    for device in found:
        if wanted in (None, RPC, SOFTWARE):
            is_rpc = device["backend"] == RPC
            if device["type"] in ("gpu", "igpu") and is_rpc == (wanted == RPC):
                return device
        elif device["name"] == wanted:
            return device
    names = ", ".join(d["name"] for d in found)
    sys.exit(f"no such device; ggml finds {names}. Elsewhere: --device {RPC}, or {SOFTWARE} (tools/second_device.py)")


def facts(device: dict[str, Any]) -> dict[str, Any]:
    """For the head of the table."""
    return {
        "device": f"{device['name']}: {device['description']}",
        "backend": device["backend"],
        "memory_mib": device["memory_total"] >> 20,
        "nvidia_smi": _output(
            "nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit", "--format=csv,noheader"
        ),
        "nvcc": _last_line(_output("nvcc", "--version")),
        "python": platform.python_version(),
        "cpu": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: _version(name) for name in ("pytrimode", "llama-cpp-python", "numpy")},
        "commit": os.environ.get("PYTRIMODE_COMMIT")
        or _output("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"),
        "environment": {k: v for k, v in os.environ.items() if k.startswith("GGML_")},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _last_line(text: str | None) -> str | None:
    return text.splitlines()[-1] if text else None


def _output(*command: str) -> str | None:
    if not shutil.which(command[0]):
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() or None
