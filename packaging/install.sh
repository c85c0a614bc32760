#!/usr/bin/env bash
# Installs the C and C++ library for hosts that build with pkg-config or CMake.
set -euo pipefail

usage() {
  cat <<'END'
usage: packaging/install.sh --prefix DIR [--destdir DIR] [--no-build]

  --prefix DIR   where the library will be used: DIR/lib, DIR/include
  --destdir DIR  put the files under DIR instead, for packaging
  --no-build     install what `cargo build --release` built before
END
}

die() {
  printf 'install.sh: %s\n' "$1" >&2
  exit 1
}

prefix='' destdir='' build=yes
while [ $# -gt 0 ]; do
  case $1 in
    --prefix | --destdir)
      [ $# -ge 2 ] || die "$1 needs a folder"
      if [ "$1" = --prefix ]; then prefix=$2; else destdir=$2; fi
      shift 2
      ;;
    --no-build) build=no; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
[ -n "$prefix" ] || { usage >&2; exit 2; }
case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
[ "$(uname -s)" = Linux ] || die 'only Linux is served: names and links below are those of ELF'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
built=${CARGO_TARGET_DIR:-$root/target}/release
if [ "$build" = yes ]; then
  (cd "$root" && cargo build --release --lib)
fi
for library in libdiffbir.so libdiffbir.a; do
  [ -f "$built/$library" ] || die "$built/$library is missing: run cargo build --release"
done

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
soname=$(sed -n 's/.*-soname,\(libdiffbir\.so\.[0-9]*\).*/\1/p' "$root/build.rs")
[ -n "$version" ] || die 'Cargo.toml says no version'
[ -n "$soname" ] || die 'build.rs says no SONAME'
# The file's name begins with its SONAME, as is the custom: the version alone (0.1.0) would look like an ABI before 1.
real_name=$soname.$version
# The fifth byte of an ELF file: 1 for 32 bits, 2 for 64.
pointer_bytes=$((4 * $(od -An -tu1 -j4 -N1 "$built/libdiffbir.so")))

lib=$destdir$prefix/lib
include=$destdir$prefix/include
doc=$destdir$prefix/share/doc/diffbir

fill() {
  sed -e "s/@VERSION@/$version/" -e "s/@SONAME@/$soname/" -e "s/@REAL_NAME@/$real_name/" \
    -e "s/@POINTER_BYTES@/$pointer_bytes/" "$root/packaging/$1.in" >"$2/$1"
  chmod 644 "$2/$1"
}

install -d "$lib/pkgconfig" "$lib/cmake/diffbir" "$include" "$doc"
install -m 755 "$built/libdiffbir.so" "$lib/$real_name"
ln -sf "$real_name" "$lib/$soname"
ln -sf "$soname" "$lib/libdiffbir.so"
install -m 644 "$built/libdiffbir.a" "$lib/libdiffbir.a"
install -m 644 "$root/include/diffbir.h" "$root/include/diffbir.hpp" "$include"
install -m 644 "$root/LICENSE" "$root/THIRD-PARTY-NOTICES.txt" "$doc"
fill diffbir.pc "$lib/pkgconfig"
fill diffbir-config.cmake "$lib/cmake/diffbir"
fill diffbir-config-version.cmake "$lib/cmake/diffbir"
printf 'diffbir %s is in %s\n' "$version" "$destdir$prefix"
