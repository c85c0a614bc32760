#!/usr/bin/env bash
# Restores small pictures in one process for a long time, and fails unless its resident memory is flat: the median of the
# last tenth of the time is at most 2 % above that of the second tenth. `cargo build --release` first.
#
# soak.sh [MINUTES] [BUNDLE]: 60 minutes by default. $DIFFBIR_LIBRARY: another libdiffbir.so than target/release's.
set -euo pipefail
. "$(dirname "$0")/host.sh"
minutes="${1:-60}"
build tests/campaigns/soak.c -o "$work/soak"

# Two arenas: with one for each thread, what stays free in them depends on which thread came first.
MALLOC_ARENA_MAX=2 "$work/soak" "$bundle" "$(awk "BEGIN { print $minutes * 60 }")" | tee "${SOAK_LOG:-$work/log}"
python3 - "${SOAK_LOG:-$work/log}" <<'P'
import statistics
import sys

rows = [[float(word) for word in line.split()] for line in open(sys.argv[1])]
tenth = max(len(rows) // 10, 1)
first, last = (statistics.median(row[2] for row in part) for part in (rows[tenth : 2 * tenth], rows[-tenth:]))
change = 100 * (last / first - 1)
failures = int(change > 2)
print(
    f"soak: {rows[-1][0] / 60:.1f} minutes, {rows[-1][1]:.0f} pictures, {first / 1024:.1f} to {last / 1024:.1f} MiB "
    f"({change:+.2f} %): 1 try, {failures} failures"
)
sys.exit(failures)
P
