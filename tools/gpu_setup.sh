#!/usr/bin/env bash
# Everything from a bare machine with a card and no network to the table of tools/gpu_suite.
#
#   tools/gpu_setup.sh KIT OUT [options of tools/gpu_suite]
#
# KIT: a folder with a llama-cpp-python of the pinned version built with a GPU backend, as a .tar.xz of what belongs into
# site-packages (llama_cpp, include, its dist-info), and in wheels/ whatever pytrimode needs and this Python lacks.
# tools/build_cuda.sh makes such a build. A wheel of pytrimode itself in wheels/ (without its model where it must be small) is
# used as it is; else native/ is compiled there. Python (PYTHON, python3) must have pip, numpy, jinja2, rich, scikit-build-core,
# nanobind, cmake and ninja. Nothing outside OUT and SITE (a temporary directory) is written.
set -euo pipefail

kit=$(cd "${1:?"usage: tools/gpu_setup.sh KIT OUT [options of tools/gpu_suite]"}" && pwd)
mkdir -p "${2:?"OUT is missing: where results go"}"
out=$(cd "$2" && pwd)
shift 2
tree=$(cd "$(dirname "$0")/.." && pwd)
python=$(command -v "${PYTHON:-python3}")
site=${SITE:-$(mktemp -d)/site}
mkdir -p "$site"
step() { echo "== $(date +%T) $*"; }

step "llama-cpp-python into $site"
archives=("$kit"/llama_cpp_python-*.tar.xz)
[ -e "${archives[0]}" ] || { echo "error: no llama_cpp_python-*.tar.xz in $kit" >&2; exit 1; }
tar xJf "${archives[0]}" -C "$site"
if ls "$kit"/wheels/*.whl >/dev/null 2>&1; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$site" "$kit"/wheels/*.whl
fi

# The runtime and cuBLAS: beside nvcc's toolkit, or where packages from PyPI put them.
export PYTHONPATH=$site
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
export LD_LIBRARY_PATH="$packages/nvidia/cu13/lib:/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

if ls "$kit"/wheels/pytrimode-*.whl >/dev/null 2>&1; then
    export PYTRIMODE_MODEL_DIR=$tree/models/trimode-tiny
else
    step "native/ for $("$python" -V)"
    "$python" -m pip install -q --no-index --no-deps --no-build-isolation --upgrade --target "$site" "$tree" \
        >"$out/build.txt" 2>&1 || { tail -n 30 "$out/build.txt"; exit 1; }
fi

cd "$site"  # outside the tree, whose package has no _native and would be imported first
step "doctor"
"$python" -m pytrimode doctor 2>&1 | tee "$out/doctor.txt" || true
step "suite"
"$python" "$tree/tools/gpu_suite" --out "$out" "$@"
