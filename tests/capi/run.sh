#!/usr/bin/env bash
# Hosts in C and C++ against include/diffbir.h and the built library, `cargo build --release` first.
#
# run.sh [quick] [BUNDLE]
#
# BUNDLE, else $DIFFBIR_TINY_BUNDLE: one that restores in an instant. Default: the tests' random one, with pictures enlarged
# as little as the format allows. `quick` leaves out valgrind: most of what it would find the sanitizers find too.
# $DIFFBIR_LIBRARY: another libdiffbir.so than target/release's.
set -euo pipefail
cd "$(dirname "$0")/../.."

quick=
if [ "${1:-}" = quick ]; then
    quick=1
    shift
fi
bundle="${1:-${DIFFBIR_TINY_BUNDLE:-}}"
library="${DIFFBIR_LIBRARY:-target/release/libdiffbir.so}"
[ -e "$library" ] || { echo "capi: no $library: run cargo build --release" >&2; exit 1; }

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Linked by its file's name, found by its SONAME, as where it is installed.
ln -s "$(realpath "$library")" "$work/libdiffbir.so"
ln -s libdiffbir.so "$work/libdiffbir.so.1"

if [ -z "$bundle" ]; then
    bundle="$work/bundle"
    cp -r tests/fixtures/bundle "$bundle"
    sed -i 's/^min_short_edge: .*/min_short_edge: 64/' "$bundle/bundle.yaml"
fi

# A cache of its own, so that the user's does not remember bundles that are gone. The runtime in it is the user's.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/diffbir/runtime"
if [ -d "$cache" ]; then
    mkdir -p "$work/cache/diffbir"
    ln -s "$cache" "$work/cache/diffbir/runtime"
    export XDG_CACHE_HOME="$work/cache"
fi

passed=0
failed=0

# Runs a test; what it prints is shown where it fails, and where it is asked for.
run() {
    local show=
    if [ "$1" = --show ]; then
        show=1
        shift
    fi
    local name="$1"
    shift
    if "$@" > "$work/log" 2>&1; then
        echo "ok $name"
        passed=$((passed + 1))
        if [ -n "$show" ]; then
            sed 's/^/    /' "$work/log"
        fi
    else
        echo "FAILED $name"
        failed=$((failed + 1))
        tail -n 60 "$work/log" | sed 's/^/    /'
    fi
}

has() { command -v "$1" > /dev/null; }

strict=(-Wall -Wextra -Wpedantic -Werror)
c=(-std=c11 -D_DEFAULT_SOURCE "${strict[@]}" -O1 -g -Itests/capi)
cxx=(-std=c++17 "${strict[@]}" -O1 -g -Itests/capi)
link=(-L"$work" -ldiffbir -lpthread -lm "-Wl,-rpath,$work")
sanitize=(-fsanitize=address,undefined -fno-sanitize-recover=undefined)

# A host: build OUTPUT COMPILER SOURCE FLAG...
build() {
    local output="$work/$1" compiler="$2" source="tests/capi/$3" flags=("${c[@]}")
    shift 3
    [[ "$source" == *.cpp ]] && flags=("${cxx[@]}")
    "$compiler" "${flags[@]}" "$@" -Iinclude "$source" "${link[@]}" -o "$output"
}

# A host on a folder of its own.
misuse() {
    rm -rf "$work/scratch"
    mkdir "$work/scratch"
    # The panics that the test asks for need no traces.
    RUST_BACKTRACE=0 "$work/$1" "$bundle" "$work/scratch"
}

# The header alone, without anything included before it.
header() {
    local compiler="$1" language="$2" standard="$3"
    for hooks in -UDIFFBIR_TEST_HOOKS -DDIFFBIR_TEST_HOOKS; do
        echo '#include "diffbir.h"' |
            "$compiler" -x "$language" "-std=$standard" "${strict[@]}" "$hooks" -Iinclude -fsyntax-only - || return 1
    done
}

c_compilers=(gcc)
cxx_compilers=(g++)
if has clang && has clang++; then
    c_compilers+=(clang)
    cxx_compilers+=(clang++)
else
    echo "SKIPPED (no clang): the header and the hosts by a second compiler"
fi

# valgrind is slow and uses one core: it starts first and is looked at last.
valgrind=
if [ -n "$quick" ]; then
    :
elif has valgrind; then
    build lifecycle.valgrind gcc lifecycle.c
    valgrind --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,possible \
        --show-leak-kinds=definite,possible --suppressions=tests/capi/valgrind.supp --gen-suppressions=all \
        "$work/lifecycle.valgrind" "$bundle" 3 --every 2 --light > "$work/valgrind.log" 2>&1 &
    valgrind=$!
    trap 'kill "$valgrind" 2> /dev/null || true; wait; rm -rf "$work"' EXIT
fi

for compiler in "${c_compilers[@]}"; do
    run "header as C11, $compiler" header "$compiler" c c11
done
for compiler in "${cxx_compilers[@]}"; do
    run "header as C++17, $compiler" header "$compiler" c++ c++17
done

for compiler in "${c_compilers[@]}"; do
    run "hosts in C build, $compiler" eval "
        build misuse.$compiler $compiler misuse.c &&
        build lifecycle.$compiler $compiler lifecycle.c &&
        build old_host.$compiler $compiler old_host.c"
    run --show "misuse, $compiler" misuse "misuse.$compiler"
    run "today's host, $compiler" "$work/old_host.$compiler" "$bundle"
done
for compiler in "${cxx_compilers[@]}"; do
    run "host in C++ builds, $compiler" build "threads.$compiler" "$compiler" threads.cpp
done

# Tomorrow's header: one field more in each structure that a host fills.
mkdir "$work/grown"
sed -E 's/^\} (diffbir_(engine_options|options|pixels|encode_options));$/  uint64_t appended;\n} \1;/' \
    include/diffbir.h > "$work/grown/diffbir.h"
run "tomorrow's header has four fields more" test "$(grep -c 'uint64_t appended;' "$work/grown/diffbir.h")" = 4
run "tomorrow's host builds" build grown_host gcc old_host.c -DGROWN -I"$work/grown"
run "tomorrow's host" "$work/grown_host" "$bundle"

# One arena: with several, how much stays free in each depends on which thread came first.
run --show "lifecycle, memory" env MALLOC_ARENA_MAX=1 "$work/lifecycle.gcc" "$bundle" 300 --memory
run "threads" "$work/threads.g++" "$bundle"
run --show "exit while requests are at work" tests/campaigns/exit.sh 6 "$bundle"

run "hosts build with sanitizers" eval '
    build misuse.sanitized gcc misuse.c "${sanitize[@]}" &&
    build lifecycle.sanitized gcc lifecycle.c "${sanitize[@]}" &&
    build threads.sanitized g++ threads.cpp "${sanitize[@]}"'
# Leaks count; none has to be passed over, not in ONNX Runtime either.
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
run "misuse, sanitized" misuse misuse.sanitized
run "lifecycle, sanitized" "$work/lifecycle.sanitized" "$bundle" 100
run "threads, sanitized" "$work/threads.sanitized" "$bundle" --short

# ThreadSanitizer is left out: the library is not built with it, and Rust's locks are no pthread mutexes, so it sees none of
# the order between threads and reports races in everything that is handed over.

if [ -n "$valgrind" ]; then
    run "lifecycle, valgrind" eval 'wait "$valgrind" || { cat "$work/valgrind.log"; false; }'
elif [ -z "$quick" ]; then
    echo "SKIPPED (no valgrind): the lifecycle by valgrind"
fi

echo "capi: $passed passed, $failed failed"
[ "$failed" = 0 ]
