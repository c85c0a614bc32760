#!/usr/bin/env bash
# All tests: Rust, Python, and hosts of the C ABI. Installs what the Python side needs into target/venv; needs cargo, a C
# compiler and Python 3.11 or newer. Tests of hosts that need clang, CMake or valgrind say SKIPPED where these are missing;
# tests/tools.sh installs them. OpenVINO's plugin, which tests/providers.rs runs, is among what is installed where there is
# one. The reference goldens are used where they are: in $DIFFBIR_GOLDEN, else in ../shared/golden.
set -euo pipefail
cd "$(dirname "$0")/.."

# Cargo builds while the Python side is installed and exports.
cargo test --release --no-run --quiet &
build=$!
trap 'kill $build 2>/dev/null || true' EXIT

venv="$PWD/target/venv"
stamp="$venv/installed"
if ! cmp -s export/pyproject.toml "$stamp"; then
    "${PYTHON:-python3}" -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --no-compile --disable-pip-version-check --prefer-binary --editable 'export[test]'
    cp export/pyproject.toml "$stamp"
fi

# The tokenizer that the exporter puts into a bundle.
export DIFFBIR_TOKENIZER="$PWD/target/tokenizer.json"
(cd export && "$venv/bin/python" -c 'import pathlib, sys; from diffbir_export import tokenizer; tokenizer.write(pathlib.Path(sys.argv[1]))' \
    "$DIFFBIR_TOKENIZER")

# The reference's tiny model as bundles: v2 with all three cleaners and everything that is optional, v2.1 with nothing.
golden="${DIFFBIR_GOLDEN:-$PWD/../shared/golden}"
if [ -d "$golden/tiny" ]; then
    export DIFFBIR_GOLDEN="$golden"
    export DIFFBIR_GOLDEN_BUNDLE="$PWD/target/golden-bundle"
    tiny="$golden/tiny"
    bundle() {
        (cd export && "$venv/bin/python" -m diffbir_export --family "$1" --arch-config "$tiny" --overwrite \
            --out "$DIFFBIR_GOLDEN_BUNDLE/$1" "${@:2}")
    }
    common=("sd=$tiny/sd_tiny.ckpt" "control=$tiny/control_tiny.pth")
    bundle v2 --guidance-graph --weights "${common[@]}" "cleaner.sr=$tiny/bsrnet_tiny.pth" \
        "cleaner.face=$tiny/swinir_tiny.ckpt" "cleaner.denoise=$tiny/scunet_tiny.pth"
    bundle v2.1 --no-text-encoder --weights "${common[@]}" "cleaner.sr=$tiny/swinir_tiny.ckpt"
fi

wait $build
cargo test --release --no-fail-fast -- --show-output

# The C ABI from outside: hosts in C, C++ and Python.
cargo build --release --quiet
tests/capi/run.sh
examples/test.sh
for kind in faults signals full-disk no-inodes; do
    python3 tests/campaigns/disturb.py "$kind" --tries 2 || [ $? -eq 77 ]
done
tests/campaigns/soak.sh 0.1
(cd python && "$venv/bin/ruff" check . && "$venv/bin/ruff" format --check . && "$venv/bin/python" -m pytest -q)

(cd benches && "$venv/bin/ruff" check . && "$venv/bin/ruff" format --check . && "$venv/bin/python" -m pytest -q -rs)

(cd export && "$venv/bin/ruff" check . && "$venv/bin/ruff" format --check . && "$venv/bin/python" -m pytest -q -n 2)
