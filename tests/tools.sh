#!/usr/bin/env bash
# Installs the compilers and tools that the tests of the C ABI use, and ffmpeg for those of videos, on Debian and Ubuntu. Does
# nothing where they are.
set -euo pipefail

missing=()
for tool in gcc g++ clang cmake valgrind pkg-config ffmpeg; do
    command -v "$tool" > /dev/null || missing+=("$tool")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" libc6-dbg
