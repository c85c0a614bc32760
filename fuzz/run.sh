#!/usr/bin/env bash
# Long runs of a fuzz target; see README.md beside this.
#
# run.sh TARGET [RUNS [SEED]]        on stable, with mutations of our own; 100,000 runs from seed 1 by default
# run.sh --libfuzzer TARGET [ARG...] under libFuzzer and AddressSanitizer; needs a nightly compiler and cargo-fuzz
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --libfuzzer ]; then
    target="${2:?run.sh --libfuzzer TARGET}"
    shift 2
    DIFFBIR_FUZZ_SEEDS="$PWD/fuzz/corpus" cargo test --release --quiet --test fuzz -- --ignored --exact write_seeds
    # The bound of memory is the promise for decoding; a run of more than 5 s is reported.
    cargo +nightly fuzz run --release "$target" -- -rss_limit_mb=1024 -malloc_limit_mb=264 -timeout=5 "$@"
    exit
fi

target="${1:?run.sh TARGET [RUNS [SEED]]}"
export DIFFBIR_FUZZ_TARGET="$target" DIFFBIR_FUZZ_RUNS="${2:-100000}" DIFFBIR_FUZZ_SEED="${3:-1}" RUST_BACKTRACE=0
cargo test --release --quiet --test fuzz -- --ignored --exact --nocapture long
