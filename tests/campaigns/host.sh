# Sourced by campaigns with a host in C, whose second argument may be a bundle. Makes $work, which is removed at the end,
# $bundle (else a copy of the tiny one for small pictures), and `build`, cc with libdiffbir. $DIFFBIR_LIBRARY: another
# libdiffbir.so than target/release's.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
library="$(realpath "${DIFFBIR_LIBRARY:-target/release/libdiffbir.so}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

bundle="${2:-}"
if [ -z "$bundle" ]; then
    bundle="$work/bundle"
    cp -r tests/fixtures/bundle "$bundle"
    sed -i 's/^min_short_edge: .*/min_short_edge: 64/' "$bundle/bundle.yaml"
fi

ln -s "$library" "$work/libdiffbir.so"
ln -s "$library" "$work/libdiffbir.so.1"
build() {
    cc -std=c11 -D_DEFAULT_SOURCE -Wall -Wextra -O1 -Iinclude -Itests/capi "$@" -L"$work" -ldiffbir -lpthread -lm \
        "-Wl,-rpath,$work"
}
