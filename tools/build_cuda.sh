#!/usr/bin/env bash
# Compile and link the CUDA variant on a machine without a GPU, a driver or a toolkit.
#
#   tools/build_cuda.sh DIR [ARCHITECTURES]     # e.g. 86 (the default, RTX 30) or "86;89;120"
#
# Makes a virtual environment in DIR: NVIDIA's compiler, runtime and cuBLAS from PyPI put together as a toolkit, the
# pinned llama-cpp-python with ggml's CUDA backend, and this tree. About an hour on two cores; a second run goes on
# where the first was broken off. What it leaves runs on a machine with a driver and a card of these architectures.
set -euo pipefail

directory=${1:?"usage: tools/build_cuda.sh DIR [ARCHITECTURES]"}
architectures=${2:-86}
tree=$(cd "$(dirname "$0")/.." && pwd)
pinned=$(sed -n 's/.*"\(llama-cpp-python==[^"]*\)".*/\1/p' "$tree/pyproject.toml" | head -1)

[ -x "$directory/bin/python" ] || python3 -m venv "$directory"
directory=$(cd "$directory" && pwd)
pip="$directory/bin/python -m pip"
$pip install -q "scikit-build-core>=1.1" "nanobind>=2.9" ninja cmake \
    "nvidia-cuda-nvcc==13.0.*" "nvidia-cuda-crt==13.0.*" "nvidia-nvvm==13.0.*" \
    "nvidia-cuda-runtime==13.0.*" "nvidia-cuda-cccl==13.0.*" "nvidia-cublas==13.0.*"

# These packages share one folder in the layout of a toolkit; only the names that the linker looks for are missing.
toolkit=$(echo "$directory"/lib/python*/site-packages/nvidia/cu13)
[ -e "$toolkit/lib64" ] || ln -s lib "$toolkit/lib64"
for library in "$toolkit"/lib/lib*.so.*; do
    [ -e "${library%%.so.*}.so" ] || ln -s "$(basename "$library")" "${library%%.so.*}.so"
done
export PATH="$toolkit/bin:$directory/bin:$PATH" CUDACXX="$toolkit/bin/nvcc"

# Without a driver there is no libcuda to link to: no virtual memory management by it.
export CMAKE_ARGS="-DGGML_CUDA=on -DGGML_CUDA_NO_VMM=on -DGGML_NATIVE=off -DCUDAToolkit_ROOT=$toolkit \
-DCMAKE_CUDA_ARCHITECTURES=$architectures"
llama_cpp=$(dirname "$(dirname "$toolkit")")/llama_cpp
if ! ls "$llama_cpp"/lib/libggml-cuda.so >/dev/null 2>&1; then
    [ -d "$directory/source" ] || $pip download -q --no-deps --no-binary :all: --no-build-isolation \
        -d "$directory/download" "$pinned"
    mkdir -p "$directory/source"
    tar -xzf "$directory"/download/*.tar.gz -C "$directory/source" --strip-components 1 --skip-old-files
    $pip install --no-build-isolation -C "build-dir=$directory/build" "$directory/source"
fi
ln -sf "$toolkit"/lib/lib{cudart,cublas,cublasLt}.so.13 "$llama_cpp/lib"  # libggml-cuda looks beside itself
$pip install --no-build-isolation -C "build-dir=$directory/build-pytrimode" "$tree"

cd "$directory"
bin/python - <<'PYTHON'
"""The libraries load, the backend has registered, and the main job runs on the CPU part of this build."""
from pathlib import Path

import llama_cpp

from pytrimode import TriMode
from pytrimode.files.shipped_model import shipped_gguf

library = next(Path(llama_cpp.__file__).parent.glob("lib/libggml-cuda.so"))
print(f"{library}: {library.stat().st_size / 1e6:.0f} MB")
print(llama_cpp.llama_print_system_info().decode())
with TriMode(shipped_gguf(print)) as model:
    answer = model.create_chat_completion([{"role": "user", "content": "What is 27 + 15?"}], temperature=0.0)
print(answer["choices"][0]["message"]["content"])
PYTHON
