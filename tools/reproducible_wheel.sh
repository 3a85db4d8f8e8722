#!/usr/bin/env bash
# Build the wheel of a commit twice, in two folders, and compare: the same commit gives the same bytes.
#
#   tools/reproducible_wheel.sh             # of HEAD
#   tools/reproducible_wheel.sh v0.1.0
#
# Needs the .venv of `make test` (its llama-cpp-python, nanobind and CMake) and a compiler. Takes two builds.
set -euo pipefail
cd "$(dirname "$0")/.."

commit=${1:-HEAD}
python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What a zip file says of times; compiled files have none.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH CCACHE_DISABLE=1

for name in first another-name; do
    mkdir -p "$work/$name/source" "$work/$name/wheel"
    git archive "$commit" | tar -x -C "$work/$name/source"
    "$python" -m pip wheel --quiet --no-deps --no-build-isolation --no-cache-dir \
        --wheel-dir "$work/$name/wheel" "$work/$name/source"
    (cd "$work/$name/wheel" && sha256sum ./*.whl)
done
if ! cmp "$work"/*/wheel/*.whl; then
    "$python" - "$work"/*/wheel/*.whl <<'END'
import sys, zipfile

one, two = (dict((i.filename, (i.CRC, i.date_time, i.external_attr)) for i in zipfile.ZipFile(p).infolist()) for p in sys.argv[1:])
print("different:", *sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name)))
END
    exit 1
fi
echo "the same bytes"
