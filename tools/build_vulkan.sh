#!/usr/bin/env bash
# Make a virtual environment whose llama.cpp has the Vulkan and RPC backends, for tools/second_device.py.
#
#   tools/build_vulkan.sh DIR [HEADERS]     # HEADERS: a folder with newer Vulkan headers than the system's
#
# Wants the packages mesa-vulkan-drivers, libvulkan-dev, glslc and spirv-headers of Debian or Ubuntu, and Vulkan headers
# of 1.3.272 or newer. Takes 15 minutes on two cores.
set -euo pipefail

directory=${1:?"usage: tools/build_vulkan.sh DIR [HEADERS]"}
tree=$(cd "$(dirname "$0")/.." && pwd)

[ -x "$directory/bin/python" ] || "${PYTHON:-python3}" -m venv "$directory"
CMAKE_ARGS="-DGGML_VULKAN=on -DGGML_RPC=on${2:+ -DVulkan_INCLUDE_DIR=$2}" \
    "$directory/bin/python" -m pip install --no-cache-dir "${tree}[test]"
