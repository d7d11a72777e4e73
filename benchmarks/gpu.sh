#!/usr/bin/env bash
# Measures xface on a CUDA device of a machine that has no network.
#
#     benchmarks/gpu.sh prepare DATA          here: fill gpu_bundle/ with wheels, faces and their landmarks
#     benchmarks/gpu.sh run OUT [OPTION]...   there, with gpu_bundle/ copied along: benchmarks/gpu.py --out OUT
#
# DATA holds dfdc_pairs/ and stylegan_ffhq/, each with a manifest.csv; the faces are other people's, so gpu_bundle/
# is ignored by git. That machine needs Python 3.12 with PyTorch, torchvision, timm, Lightning, OpenCV, pandas,
# pyarrow, scikit-learn, statsmodels and matplotlib. dlib's landmark file (100 MB) stays behind: the landmarks go.
set -euo pipefail
cd "$(dirname "$0")/.."
BUNDLE=gpu_bundle
PYTHON=${PYTHON:-python3}

# What a general PyTorch image lacks, and pydantic's own needs in the versions that fit it.
WHEELS=(captum torchinfo dlib-bin pydantic annotated-types typing-inspection typing-extensions)
SOURCES=("grad-cam>=1.5" ttach) # no wheel of grad-cam is published

prepare() {
    local data=$1 core fetch
    rm -rf "$BUNDLE" && mkdir -p "$BUNDLE/wheels"
    fetch=("$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12
        --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux1_x86_64
        -d "$BUNDLE/wheels")
    "${fetch[@]}" "${WHEELS[@]}"
    core=$(unzip -p "$BUNDLE"/wheels/pydantic-*.whl '*/METADATA' | sed -n 's/^Requires-Dist: \(pydantic-core==.*\)/\1/p')
    "${fetch[@]}" "$core"
    "$PYTHON" -m pip wheel --quiet --no-deps -w "$BUNDLE/wheels" "${SOURCES[@]}"
    XDG_CACHE_HOME="$PWD/$BUNDLE/cache" "$PYTHON" benchmarks/gpu_faces.py "$data" "$BUNDLE/faces"
    du -sh "$BUNDLE"
}

run() {
    local out=$1 site
    shift
    site=$(mktemp -d)
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" \
        "$BUNDLE"/wheels/*.whl
    PYTHONPATH="$site:$PWD" "$PYTHON" benchmarks/gpu.py --bundle "$BUNDLE" --out "$out" "$@"
}

case "${1:-}" in
    prepare) prepare "${2:?prepare DATA: the folder that holds dfdc_pairs/ and stylegan_ffhq/}" ;;
    run) run "${@:2}" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
