#!/usr/bin/env bash
# Checks the installed library from a host's side: installs it into a temporary folder, builds the examples with CMake
# and pkg-config, runs them, and compares their results with the program's.
#
# Needs what `cargo build --release` builds, and ONNX Runtime where the library finds it. Never uses the network.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
built=${CARGO_TARGET_DIR:-$root/target}/release
bundle=$root/onnx/demo
picture=$bundle/pictures/chelsea.png
steps=2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
expected=$work/expected
checks=0

passed() {
  checks=$((checks + 1))
  printf 'ok: %s\n' "$1"
}

failed() {
  printf 'FAILED: %s\n' "$1" >&2
  exit 1
}

# check WHAT COMMAND...: it has to succeed; what it says is shown where it does not.
check() {
  local what=$1
  shift
  if ! "$@" >"$work/log" 2>&1; then
    cat "$work/log" >&2
    failed "$what"
  fi
  passed "$what"
}

have() { command -v "$1" >/dev/null 2>&1; }

# lacks TOOL WHAT: says that WHAT is skipped where TOOL is missing.
lacks() {
  if have "$1"; then return 1; fi
  printf 'SKIPPED (no %s): %s\n' "$1" "$2"
}

# Programs run as on a machine that has the library and nothing to build it with.
mkdir "$work/empty"
bare() { env PATH="$work/empty" "$@"; }

# The same file, or else the same pixels: how a picture was made is written into it too.
same_picture() {
  cmp -s "$1" "$2" && return
  have python3 || return
  python3 "$root/examples/tests/png_to_ppm.py" "$1" "$work/a.ppm"
  python3 "$root/examples/tests/png_to_ppm.py" "$2" "$work/b.ppm"
  cmp "$work/a.ppm" "$work/b.ppm"
}

# restores WHAT PROGRAM OUTPUT: file to file, as the program `diffbir` does it.
restores() {
  check "$1: runs" bare "$2" "$bundle" "$picture" "$3" sampling.steps=$steps
  check "$1: same picture as the program's" same_picture "$3" "$expected/chelsea.png"
}

install_and_move() {
  # Installed for one place, then moved to another: nothing in the tree may depend on where it is.
  "$root/packaging/install.sh" --no-build --prefix /opt/diffbir --destdir "$work/staged"
  mv "$work/staged/opt/diffbir" "$prefix"
  [ -f "$prefix/lib/libdiffbir.so" ] && [ -f "$prefix/lib/libdiffbir.a" ]
  [ -s "$prefix/share/doc/diffbir/THIRD-PARTY-NOTICES.txt" ] && [ -s "$prefix/share/doc/diffbir/LICENSE" ]
  # A host is linked with the SONAME; the link of that name has to be there.
  if have readelf; then
    local soname
    soname=$(readelf -d "$prefix/lib/libdiffbir.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
    [ -f "$prefix/lib/$soname" ]
    [ "$(readlink "$prefix/lib/libdiffbir.so")" = "$soname" ]
  fi
}

by_program() {
  "$built/diffbir" restore "$bundle"/pictures/*.png -o "$expected" --bundle "$bundle" --steps $steps --offline
}

# cmake_build FOLDER C CXX LIBRARY
cmake_build() {
  CC=$2 CXX=$3 cmake -S "$root/examples" -B "$1" -DCMAKE_PREFIX_PATH="$prefix" -DDIFFBIR_LIBRARY="$4"
  cmake --build "$1"
}

restores_pixels() {
  local out=$2.out
  python3 "$root/examples/tests/png_to_ppm.py" "$picture" "$out.in.ppm"
  python3 "$root/examples/tests/png_to_ppm.py" "$expected/chelsea.png" "$out.expected.ppm"
  check "$1: runs" bare "$2" "$bundle" "$out.in.ppm" "$out.ppm" sampling.steps=$steps
  check "$1: same pixels as the program's" cmp "$out.ppm" "$out.expected.ppm"
}

restores_in_threads() {
  local out=$2.out
  check "$1: runs" bare "$2" "$bundle" $steps "$out" "$bundle"/pictures/*.png
  for one in "$expected"/*.png; do
    check "$1: same picture as the program's, $(basename "$one")" same_picture "$out/$(basename "$one")" "$one"
  done
  if bare "$2" "$bundle" $steps "$out.bad" "$picture" "$work/missing.png" 2>"$out.error"; then
    failed "$1: a missing file is an error"
  fi
  check "$1: a missing file is named" grep -q 'error: .*missing.png' "$out.error"
}

# Ctrl-C, once the program has said that it is at work.
stops_on_interrupt() {
  local fifo=$2.fifo out=$2.stopped.png code=0
  mkfifo "$fifo"
  # Not by `bare`: a function would run in a shell of its own, and that shell would get the signal.
  env PATH="$work/empty" "$2" "$bundle" "$picture" "$out" sampling.steps=500 2>"$fifo" &
  local pid=$!
  exec 3<"$fifo"
  read -r _ <&3 || failed "$1: it says something before it ends"
  kill -INT $pid
  wait $pid || code=$?
  cat <&3 >"$work/log"
  exec 3<&-
  if [ $code -ne 130 ] || [ -e "$out" ]; then
    tail -n 5 "$work/log" >&2
    failed "$1: Ctrl-C ended it with $code, expected 130 and no result"
  fi
  passed "$1: Ctrl-C stops it"
}

by_cmake() {
  local build=$work/cmake-$1
  check "$1: CMake builds the examples" cmake_build "$build" "$1" "$2" diffbir::diffbir
  restores "$1, restore.c" "$build/restore_c" "$build/c.png"
  restores "$1, restore.cpp" "$build/restore" "$build/cpp.png"
  stops_on_interrupt "$1, restore.cpp" "$build/restore"
  lacks python3 "$1, raw.cpp" || restores_pixels "$1, raw.cpp" "$build/raw"
  restores_in_threads "$1, threads.cpp" "$build/threads"
  check "$1: CMake builds the examples with the static library" \
    cmake_build "$build-static" "$1" "$2" diffbir::static
  restores "$1, restore.c with the static library" "$build-static/restore_c" "$build/static.png"
}

flags() { PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config "$@" diffbir; }

# Flags are words: that is how pkg-config gives them.
# shellcheck disable=SC2046
by_pkg_config() {
  local build=$work/pkg-config-$1 source=$root/examples/c/restore.c rpath=-Wl,-rpath,$prefix/lib
  local -a strict=(-Wall -Wextra -Wpedantic -Werror)
  mkdir "$build"
  check "$1: pkg-config builds restore.c" \
    "$1" -std=c11 "${strict[@]}" "$source" $(flags --cflags --libs) "$rpath" -o "$build/shared"
  restores "$1, restore.c by pkg-config" "$build/shared" "$build/shared.png"
  check "$1: pkg-config builds restore.c with the static library" \
    "$1" -std=c11 "${strict[@]}" "$source" $(flags --cflags --libs --static | sed 's/-ldiffbir/-l:libdiffbir.a/') \
    -o "$build/static"
  restores "$1, restore.c with the static library by pkg-config" "$build/static" "$build/static.png"
  for standard in c++17 c++20; do
    check "$1: diffbir.hpp as $standard" "$2" -std=$standard "${strict[@]}" -fsyntax-only $(flags --cflags) \
      "$root/examples/tests/wrapper.cpp"
  done
  # What the wrapper does is the same with every compiler.
  if [ "$1" = gcc ]; then
    local -a sanitizers=(-g -fsanitize=address -fsanitize=undefined -fno-sanitize-recover=all)
    if ! echo 'int main() {}' | "$2" "${sanitizers[@]}" -x c++ - -o "$build/nothing" 2>/dev/null; then
      echo "SKIPPED (no AddressSanitizer): $1: the wrapper's tests under it"
      sanitizers=()
    fi
    check "$1: pkg-config builds the wrapper's tests" "$2" -std=c++17 "${strict[@]}" "${sanitizers[@]}" \
      "$root/examples/tests/wrapper.cpp" $(flags --cflags --libs) "$rpath" -pthread -o "$build/wrapper"
    check "$1: the wrapper's tests" bare "$build/wrapper" "$bundle" "$picture"
    checks=$((checks - 1 + $(cat "$work/log")))
  fi
}

[ -x "$built/diffbir" ] || failed "$built/diffbir is missing: run cargo build --release"
check 'installs, and the tree may be moved' install_and_move
check 'the program restores the pictures' by_program
for pair in gcc:g++ clang:clang++; do
  c=${pair%:*} cxx=${pair#*:}
  lacks "$c" "the examples with $c" && continue
  lacks "$cxx" "the examples with $cxx" && continue
  lacks cmake "$c: the examples by CMake" || by_cmake "$c" "$cxx"
  lacks pkg-config "$c: the examples by pkg-config" || by_pkg_config "$c" "$cxx"
done
printf 'examples: %d checks passed\n' "$checks"
