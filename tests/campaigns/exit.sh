#!/usr/bin/env bash
# Ends a host while its requests are at work, in each way of tests/capi/exit.c, and counts what ends with anything but 0
# or hangs. `cargo build --release` first.
#
# exit.sh [TRIES] [BUNDLE]: TRIES for each way, 120 by default. $DIFFBIR_LIBRARY: another libdiffbir.so than target/release's.
set -euo pipefail
. "$(dirname "$0")/host.sh"
tries="${1:-120}"
build -Wpedantic -Werror -g tests/capi/exit.c -o "$work/exit"

# Most of what can go wrong does while graphs are loaded, so most tries are at the first events.
events=(1 1 2 1 3 1 5 8 1 2 13 40)
faults=0
for way in submitted threads run callback freed static held; do
    failed=0
    for ((k = 0; k < tries; k++)); do
        code=0
        timeout 120 "$work/exit" "$bundle" "$way" "${events[k % ${#events[@]}]}" $((k * 9973 % 400000)) \
            > "$work/log" 2>&1 || code=$?
        if [ "$code" -ne 0 ]; then
            failed=$((failed + 1))
            echo "$way, try $k: $code"
            tail -n 3 "$work/log"
        fi
    done
    echo "exit, $way: $tries tries, $failed faults"
    faults=$((faults + failed))
done
[ "$faults" -eq 0 ]
