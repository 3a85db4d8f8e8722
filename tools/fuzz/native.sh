#!/usr/bin/env bash
# Fuzz parts of the engine, guided by coverage, with AddressSanitizer and UndefinedBehaviorSanitizer: libFuzzer.
#
#   tools/fuzz/native.sh cache 600        # the prefix cache and batches, 600 seconds
#   tools/fuzz/native.sh output 60        # loops and stop strings
#   tools/fuzz/native.sh products 60      # packing and products of weights
#   tools/fuzz/native.sh all 60
#   tools/fuzz/native.sh all 0            # what is kept in tools/fuzz/corpus, once
#
# Needs clang with libFuzzer (Debian's clang, libclang-rt-dev and libfuzzer-dev) and the .venv of `make test`. Inputs that
# reach something new are kept in build/fuzz/NAME/corpus (`python -m tools.fuzz.kept NAME` chooses those that stay), findings
# in build/fuzz/NAME. Exits with 1 at a finding.
set -euo pipefail
cd "$(dirname "$0")/../.."

name=${1:?name cache, output, products or all}
seconds=${2:-60}
site=$(.venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")

fuzz() {
    local name=$1 out=build/fuzz/$1
    shift
    mkdir -p build/fuzz/bin
    .venv/bin/python -m tools.fuzz.kept "$name" --unpack "$out/corpus"
    local sources=()
    for source in "$@"; do sources+=("native/$source.cpp"); done
    "${CXX:-clang++}" -std=c++17 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
        -ffp-contract=off -Inative -isystem "$site/include" -o "build/fuzz/bin/$name" \
        "tools/fuzz/native/$name.cpp" "${sources[@]}" -L"$site/llama_cpp/lib" -lggml-base -Wl,-rpath,"$site/llama_cpp/lib"
    local limit=-max_total_time=$seconds
    [ "$seconds" != 0 ] || limit=-runs=0
    "build/fuzz/bin/$name" "$limit" -timeout=10 -max_len=4096 -artifact_prefix="$out/" \
        -print_final_stats=1 "$out/corpus"
}

case $name in
cache | all) fuzz cache cache/prefix_cache cache/pages forward/batch ;;&
output | all) fuzz output decoders/loop_detector decoders/stop_strings ;;&
products | all) fuzz products products/sets products/pack products/set_plain util/cpu_features ;;&
cache | output | products | all) ;;
*)
    echo "error: $name: name cache, output, products or all" >&2
    exit 2
    ;;
esac
