#!/usr/bin/env bash
# Hold the CPU's kernels (products, attention) of all instruction sets against the plain ones, bit for bit.
#
#   tools/check_kernels.sh             # those of this machine
#   tools/check_kernels.sh aarch64     # those of 64-bit ARM, cross-compiled, under qemu
#
# Needs cmake and a compiler; for aarch64 the packages g++-aarch64-linux-gnu and qemu-user of Debian or Ubuntu. Python
# (PYTHON, .venv/bin/python) only says where ggml.h is. A first build takes one or two minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-native}
build=build/kernels/$target
include=$("${PYTHON:-.venv/bin/python}" -c \
    "import importlib.util as u, pathlib; print(pathlib.Path(u.find_spec('llama_cpp').origin).parents[1] / 'include')")
options=(-DGGML_INCLUDE="$include" -DCMAKE_BUILD_TYPE=Release)
check=("$build/check_kernels")
case $target in
native) ;;
aarch64)
    options+=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++)
    options+=(-DCMAKE_EXE_LINKER_FLAGS=-static)
    check=(qemu-aarch64 -cpu max "$build/check_kernels" products/neon-{i8mm,dotprod} attention/neon)
    ;;
*)
    echo "error: $target: leave it out for this machine, or name aarch64" >&2
    exit 2
    ;;
esac
cmake -S tests/kernels -B "$build" "${options[@]}" >/dev/null
cmake --build "$build" --parallel "${JOBS:-2}"
"${check[@]}"
