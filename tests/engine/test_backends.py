"""ggml's backends in libraries of their own: those beside libggml are loaded, no others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCE = """
#include <stdio.h>
__attribute__((constructor)) static void loaded(void) { puts("a stranger's library"); }
int ggml_backend_score(void) { return 1; }
"""
COMPILE = [*os.environ.get("CC", "cc").split(), "-shared", "-fPIC", "-x", "c", "-"]
CODE = "from pytrimode import _native; print(*(backend['name'] for backend in _native.backends()))"


def test_nothing_is_loaded_from_the_working_directory(tmp_path: Path) -> None:
    """A folder with a downloaded model may hold anything, and ggml's own search takes what is named like a backend."""
    for name in ("libggml-cuda-x.so", "libggml-vulkan.so", "libggml-cpu-x.so"):
        subprocess.run([*COMPILE, "-o", tmp_path / name], input=SOURCE, text=True, check=True)
    result = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert "CPU" in result.stdout.split()
    assert "stranger" not in result.stdout


def test_a_backend_can_be_named(tmp_path: Path) -> None:
    """By llama.cpp's variable; that the library above would say so proves the test above."""
    library = tmp_path / "libggml-other.so"
    subprocess.run([*COMPILE, "-o", library], input=SOURCE, text=True, check=True)
    result = subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, "GGML_BACKEND_PATH": str(library)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "stranger" in result.stdout
