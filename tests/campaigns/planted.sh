#!/usr/bin/env bash
# Plants libraries and Python modules where a user's files lie, and runs commands there: none may run. A planted library
# leaves a file when it is loaded, a planted module when it is imported.
#
# planted.sh [DIFFBIR [BUNDLE]]. Needs a C compiler. Prints tries and failures; 77: not possible here.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
program=$(realpath "${1:-$root/target/release/diffbir}")
fixture=$(realpath "${2:-$root/tests/fixtures/bundle}")
command -v cc > /dev/null || { echo "planted: SKIPPED (no C compiler)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export DIFFBIR_CACHE="${DIFFBIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/diffbir}" PIP_NO_INDEX=1
unset ORT_DYLIB_PATH LD_LIBRARY_PATH PYTHONPATH VIRTUAL_ENV CONDA_PREFIX
cd "$work" || exit 1
mkdir clean && python3 "$here/hostile_files.py" clean "$root/tests/goldens/pictures/still.jxl" || exit 1

cat > planted.c <<C
#include <stdio.h>
__attribute__((constructor)) static void run(void) {
    FILE *ran = fopen("$work/ran", "a");
    if (ran) { fputs("a library\n", ran); fclose(ran); }
}
C
cc -shared -fPIC planted.c -o planted.so || exit 1
libraries=(libonnxruntime.so libonnxruntime.so.1 libonnxruntime_providers_shared.so libonnxruntime_providers_cuda.so
    libcudart.so.12 libcudnn.so.9 libnvinfer.so.10 libstdc++.so.6 libgcc_s.so.1 libm.so.6)
modules=(pip.py sitecustomize.py usercustomize.py encodings.py os.py onnxruntime.py)

tries=0 failures=0
for place in folder-of-work folder-of-inputs folder-of-results bundle; do
    for kind in libraries modules; do
        rm -rf run && mkdir -p run/in run/out && cp clean/a.png run/in && cp -r "$fixture" run/bundle
        sed -i 's/^min_short_edge: .*/min_short_edge: 64/' run/bundle/bundle.yaml
        case $place in
            folder-of-work) at=run ;; folder-of-inputs) at=run/in ;; folder-of-results) at=run/out ;; *) at=run/bundle ;;
        esac
        if [ $kind = libraries ]; then
            for name in "${libraries[@]}"; do cp planted.so "$at/$name"; done
        else
            for name in "${modules[@]}"; do echo "open('$work/ran', 'a').write('a module')" > "$at/$name"; done
            mkdir "$at/pip" && cp "$at/pip.py" "$at/pip/__init__.py" && cp "$at/pip.py" "$at/pip/__main__.py"
        fi
        # The working folder is the planted one, by turns.
        for command in "doctor --offline" "inspect $work/run/bundle" "runtime install" \
            "restore $work/run/in/a.png -o $work/run/out/o.png --bundle $work/run/bundle --offline --sampler ddim --steps 1 --upscale 1 --overwrite"; do
            rm -f ran
            cache=$DIFFBIR_CACHE
            [ "$command" != "runtime install" ] || cache=$work/cache
            # shellcheck disable=SC2086
            (cd "$at" && DIFFBIR_CACHE=$cache timeout 120 "$program" $command > "$work/log" 2>&1)
            tries=$((tries + 1))
            if [ -e ran ]; then
                failures=$((failures + 1))
                echo "FAILED  $kind in the $place, ${command%% *}: $(sort -u ran | tr '\n' ' ')"
            fi
        done
    done
done
echo "planted: $tries tries, $failures failures"
[ $failures -eq 0 ]
