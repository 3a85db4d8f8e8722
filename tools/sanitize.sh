#!/usr/bin/env bash
# Build the engine with AddressSanitizer and UndefinedBehaviorSanitizer and run tests over it: `make sanitize`.
#
#   tools/sanitize.sh                          # the kernels' check, then tests of the engine and of damaged files
#   tools/sanitize.sh tests/decoding/...       # the kernels' check, then these
#
# Needs GCC and the .venv of `make test`. llama.cpp itself is not instrumented. The products have the plain and the AVX2
# set. A first build takes about ten minutes on two cores, in build/sanitize; a report of a sanitizer ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
build=build/sanitize
python=$root/.venv/bin/python
purelib=$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
# Checks of memory as calls: functions of the kernels' size take a minute each to compile otherwise.
flags="-O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
flags="$flags --param asan-instrumentation-with-call-threshold=0"
tests=(tests/engine/test_hparams.py tests/decoding/test_loop_detector.py tests/decoding/test_damaged_weights.py
    tests/api/test_hostile_conversations.py tests/engine/test_tokenizer.py tests/decoding/test_sampling.py
    tests/decoding/test_ngram.py tests/engine/test_cells.py)
# Memory that is held at the end is Python's.
export ASAN_OPTIONS=detect_leaks=0:exitcode=99 UBSAN_OPTIONS=print_stacktrace=1 OMP_WAIT_POLICY=passive
[ $# -eq 0 ] || tests=("$@")

cmake -S tests/kernels -B "$build/kernels" -DGGML_INCLUDE="$purelib/include" -DPYTRIMODE_SANITIZE=ON \
    -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="$flags" >/dev/null
cmake --build "$build/kernels" --parallel "${JOBS:-2}"
"$build/kernels/check_kernels"

# Without isolation, so that it is compiled against the llama.cpp of .venv.
"$python" -m pip install -q --no-deps --no-build-isolation --upgrade --target "$build/site" \
    -C build-dir="$build/native" -C install.strip=false -C cmake.build-type=None \
    -C cmake.define.PYTRIMODE_SANITIZE=ON -C "cmake.define.CMAKE_CXX_FLAGS=$flags" .

# The tree of the sources, with that engine in it; llama.cpp is looked for beside the package.
tree=$build/tree
rm -rf "$tree" && mkdir -p "$tree/pytrimode"
ln -s "$root"/pytrimode/* "$root"/convert "$root"/quantize "$tree/pytrimode/"
ln -sf "$root/$build"/site/pytrimode/_native*.so "$tree/pytrimode/"
for name in tests tools benchmarks models examples pyproject.toml; do ln -s "$root/$name" "$tree/"; done
ln -s "$purelib/llama_cpp" "$tree/"
mkdir -p "$tree/pytrimode/models" && ln -s "$root/models/trimode-tiny" "$tree/pytrimode/models/"

cd "$tree"
# -S: without site-packages' .pth files the editable installation does not stand before this tree.
PYTHONPATH=.:$purelib LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so.6)" \
    "$python" -S -m pytest -p no:cacheprovider -q "${tests[@]}" \
    --deselect tests/api/test_hostile_conversations.py::test_the_turns_that_do_not_fit_cost_little \
    --deselect tests/decoding/test_ngram.py::test_greedy_equals_greedy_ar  # a test of time, and an hour of products
