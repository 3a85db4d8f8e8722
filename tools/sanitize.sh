#!/usr/bin/env bash
# Build the engine with sanitizers and run tests over it: `make sanitize` and `make sanitize-threads`.
#
#   tools/sanitize.sh address                        # AddressSanitizer and UndefinedBehaviorSanitizer: the kernels'
#                                                    # check, then tests of the engine and of damaged files
#   tools/sanitize.sh thread                         # ThreadSanitizer: tests in which threads meet
#   tools/sanitize.sh address tests/decoding/...     # these instead
#
# Needs GCC and the .venv of `make test`. llama.cpp itself is not instrumented. The products have the plain and the AVX2
# set. A first build takes about ten minutes on two cores, in build/sanitize; a report of a sanitizer ends the run.
#
# What llama.cpp's threads do in one pass is left out under ThreadSanitizer: libgomp's barriers, which order it, are
# futexes that it does not see. The tests' models compute with one thread; weights are packed by several.
set -euo pipefail
cd "$(dirname "$0")/.."

sanitizer=${1:-address}
shift || true
root=$PWD
build=build/sanitize/$sanitizer
python=$root/.venv/bin/python
purelib=$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
flags="-O1 -g1 -fno-omit-frame-pointer"
deselected=() run=()
export OMP_WAIT_POLICY=passive
case $sanitizer in
address)
    library=libasan.so
    # Checks of memory as calls: functions of the kernels' size take a minute each to compile otherwise.
    flags="$flags -fsanitize=address,undefined -fno-sanitize-recover=undefined"
    flags="$flags --param asan-instrumentation-with-call-threshold=0"
    # Memory that is held at the end is Python's.
    export ASAN_OPTIONS=detect_leaks=0:exitcode=99 UBSAN_OPTIONS=print_stacktrace=1
    tests=(tests/engine/test_hparams.py tests/decoding/test_loop_detector.py tests/decoding/test_damaged_weights.py
        tests/api/test_hostile_conversations.py tests/engine/test_tokenizer.py tests/decoding/test_sampling.py
        tests/decoding/test_ngram.py tests/engine/test_cells.py)
    # A test of time, and an hour of products.
    deselected=(tests/api/test_hostile_conversations.py::test_the_turns_that_do_not_fit_cost_little
        tests/decoding/test_ngram.py::test_greedy_equals_greedy_ar)
    ;;
thread)
    library=libtsan.so
    flags="$flags -fsanitize=thread"
    export TSAN_OPTIONS=halt_on_error=1:exitcode=99:die_after_fork=0
    batching=tests/engine/test_batching.py load=tests/server/test_load.py
    tests=($batching::test_requests_that_are_released_at_once_leave_nothing $batching::test_asyncio
        $batching::test_the_queue_has_a_limit $load::test_the_engine_waits_for_a_slow_reader
        $load::test_no_token_is_lost_of_a_request_that_is_faster_than_its_caller
        $load::test_a_full_queue_is_429_and_a_client_that_leaves_frees_the_slot
        $load::test_requests_side_by_side_get_their_own_answers tests/vision/test_picture_crowd.py)
    # Without address space randomization: GCC's library knows few of its layouts.
    run=(setarch -R)
    ;;
*)
    echo "error: $sanitizer: name address or thread" >&2
    exit 2
    ;;
esac
[ $# -eq 0 ] || tests=("$@")

if [ "$sanitizer" = address ]; then
    cmake -S tests/kernels -B "$build/kernels" -DGGML_INCLUDE="$purelib/include" -DPYTRIMODE_SANITIZE=ON \
        -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="$flags" >/dev/null
    cmake --build "$build/kernels" --parallel "${JOBS:-2}"
    "$build/kernels/check_kernels"
fi

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
# -S: without site-packages' .pth files the editable installation does not stand before this tree. A report goes to
# stderr itself, so pytest must not take that.
PYTHONPATH=.:$purelib LD_PRELOAD="$(gcc -print-file-name=$library) $(gcc -print-file-name=libstdc++.so.6)" \
    "${run[@]}" "$python" -S -m pytest -p no:cacheprovider -q --capture=sys "${tests[@]}" "${deselected[@]/#/--deselect=}"
