#!/usr/bin/env bash
# attacks.sh [DIFFBIR [BUNDLE]]: every known way to do harm from outside, with the exit code, the memory and the files that
# are right. See README.md beside it. Exit code: 0 where all hold.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
program=$(realpath "${1:-$root/target/release/diffbir}")
bundle=$(realpath "${2:-$root/tests/fixtures/bundle}")
only=${ONLY:-}
library=$(realpath "${DIFFBIR_LIBRARY:-$root/target/release/libdiffbir.so}")
export RUST_BACKTRACE=0 DIFFBIR_CACHE="${DIFFBIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/diffbir}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
python3 "$here/hostile_files.py" . "$root/tests/goldens/pictures/still.jxl" || exit 1

tries=0 failures=0
verdict() { # NAME HOLDS DETAILS
  tries=$((tries + 1))
  if [ "$2" = yes ]; then printf 'ok      %s\n' "$1"; else
    failures=$((failures + 1))
    printf 'FAILED  %s: %s\n' "$1" "$3"
  fi
}
chosen() { [[ -z $only || $1 == *"$only"* ]]; }

# expect NAME CODES MIB TEXT COMMAND...: it ends by itself within 60 s with one of CODES ("1|2"), takes at most MIB of memory
# (and is refused more than 4000 MiB of address space above that), says TEXT, and does not panic.
expect() {
  local name=$1 codes=$2 mib=$3 text=$4 ended code peak
  shift 4
  chosen "$name" || return 0
  ended=$(python3 "$here/bounded.py" "${SECONDS_EACH:-60}" $((mib + 4000)) "$@" 2> log)
  read -r code peak <<< "$ended"
  local holds=yes
  [[ "|$codes|" == *"|$code|"* ]] || holds=no
  [ "$peak" -le "$mib" ] || holds=no
  grep -q -- "$text" log || holds=no
  ! grep -q 'panicked\|a defect of the program' log || holds=no
  verdict "$name" $holds "exit $code (expected $codes), $peak of $mib MiB, said: $(grep -v '^$' log | tail -1 | cut -c1-160)"
}
# By `--set`, so that a flag may give another size.
quick=(--bundle "$bundle" --offline --sampler ddim --steps 1 --set restore.upscale=1)
restore() { "$program" restore "$@" "${quick[@]}" > log 2>&1; }
same() { [ "$(sha256sum < "$1")" = "$2" ] && echo yes || echo no; }
said() { tail -1 log | cut -c1-160; }

echo '== code and libraries from elsewhere'
if chosen pip; then
  mkdir plant
  echo 'open("ran", "w")' > plant/pip.py
  (cd plant && env -u ORT_DYLIB_PATH DIFFBIR_CACHE="$work/c1" PIP_NO_INDEX=1 "$program" runtime install > ../log 2>&1)
  verdict 'a pip.py of the working folder is not run' "$([ -e plant/ran ] && echo no || echo yes)" 'it ran'
fi
if chosen library; then
  mkdir lib && echo none > lib/libonnxruntime.so && chmod 666 lib/libonnxruntime.so
  expect 'a library that others may write is refused' 4 400 'chmod go-w' \
    env ORT_DYLIB_PATH="$work/lib/libonnxruntime.so" "$program" doctor --offline
  mkdir -p c2/runtime && echo precious > precious && ln -s ../../precious c2/runtime/.lock
  env DIFFBIR_CACHE="$work/c2" PIP_NO_INDEX=1 "$program" runtime install > log 2>&1
  verdict 'the lock of installing follows no link' "$(same precious "$(echo precious | sha256sum)")" 'its target was truncated'
fi
if chosen telemetry; then
  mkdir home
  env -u ORT_DISABLE_TELEMETRY -u XDG_CACHE_HOME HOME="$work/home" "$program" restore a.png -o t.png "${quick[@]}" > log 2>&1
  found=$(find home -type f | head -3)
  verdict 'the runtime leaves no record in the home folder' "$([ -z "$found" ] && echo yes || echo no)" "$found"
fi

echo '== files of the user'
if chosen input; then
  mkdir in && cp a.png a_0.png in && before=$(sha256sum < in/a_0.png)
  restore in/a.png in/a_0.png -o in --samples 2 --skip-existing
  code=$?
  verdict 'an input is not replaced by the result of another' "$(same in/a_0.png "$before")" 'it was'
  verdict 'which is refused as an option' "$([ $code -eq 2 ] && echo yes || echo no)" "exit $code: $(said)"
fi
if chosen stages; then
  mkdir -p st/x st/y && cp a.png st/x/p.png && cp a_0.png st/y/p.png
  restore st -o sto --recursive --save-stages stages
  count=$(find stages -type f 2> /dev/null | wc -l)
  verdict 'stages of pictures of one name are kept apart' "$([ "$count" -eq 6 ] && echo yes || echo no)" "$count of 6 files"
fi

echo '== small pictures, large work'
planned() { # NAME CODES MIB TEXT FILE [OPTION...]
  local name=$1 codes=$2 mib=$3 text=$4
  shift 4
  expect "$name" "$codes" "$mib" "$text" "$program" restore "$@" -o never "${quick[@]}" --dry-run
}
# A dry run reads headers alone: what lies behind them needs a whole run.
decoded() { # NAME CODES MIB TEXT FILE
  rm -f decoded.png
  expect "$1" "$2" "$3" "$4" "$program" restore "$5" -o decoded.png "${quick[@]}"
}
decoded 'JPEG XL whose Exif unpacks to 1 GiB' 1 500 'EXIF' exif.jxl
decoded 'PNG whose profile unpacks to 1 GiB' 0 900 '' profile.png
planned 'PNG of 10,000,000x1 pixels' '0|1|2|5' 800 '' strip.png --upscale 4
decoded 'WebP whose metadata claims 4 GiB' 1 400 '' claim.webp
SECONDS_EACH=20 decoded 'JPEG of 8000 scans' 1 400 'scans' scans.jpg

echo '== numbers without bounds'
number() { # NAME CODES TEXT OPTION...
  local name=$1 codes=$2 text=$3
  shift 3
  rm -f n.png
  expect "$name" "$codes" 900 "$text" "$program" restore a.png -o n.png "${quick[@]}" "$@"
}
for scale in 1e5 1e6 1e12 1e19 1e300; do number "number: --upscale $scale" '2|5' '' --upscale $scale; done
number 'number: --samples 1e12' 2 samples --samples 1000000000000
number 'number: --strength 1e38 is out of bounds or not finite' '1|2' '' --strength 1e38
number 'number: exact tiles of 2^64-1' 2 cleaner_exact --set tiling.cleaner_exact=18446744073709551615
number 'number: warm-up of 2^32' 2 warm_up --set 'runtime.warm_up=[4294967296,4294967296]'
number 'number: guidance.repeat 1e9' 2 repeat --guidance-scale 1 --set guidance.repeat=1000000000
number 'number: a key of 10,000 parts' '0|2|3|4' '' --set "runtime.options$(printf '.a%.0s' $(seq 10000))=1"
damaged() { # NAME SED-EXPRESSION TEXT
  rm -rf b n.png && cp -r "$bundle" b && sed -i "$2" b/bundle.yaml
  expect "$1" 3 900 "$3" "$program" restore a.png -o n.png --bundle b --offline --steps 2
}
damaged 'bundle: 1e9 timesteps' 's/timesteps: .*/timesteps: 1000000000/' timesteps
damaged 'bundle: 2^62 timesteps' 's/timesteps: .*/timesteps: 4611686018427387904/' timesteps
damaged 'bundle: min_short_edge 1e9' 's/min_short_edge: .*/min_short_edge: 1000000000/' min_short_edge
damaged 'bundle: multiple 2^62' '0,/multiple: .*/s//multiple: 4611686018427387904/' multiple
damaged 'bundle: scale 1e9' '0,/ scale: .*/s// scale: 1000000000.0/' scale

echo '== descriptions'
damaged 'bundle: a key twice' '$a min_short_edge: 256' 'duplicate\|twice'
rm -rf b && cp -r "$bundle" b && rm b/bundle.yaml && mkfifo b/bundle.yaml
expect 'bundle.yaml is a FIFO' 3 200 'regular file' "$program" inspect b
rm b/bundle.yaml && ln -s /dev/zero b/bundle.yaml
expect 'bundle.yaml is endless' 3 200 'regular file' "$program" inspect b
rm -rf b && cp -r "$bundle" b && rm -f b/cleaner_sr.onnx && mkfifo b/cleaner_sr.onnx
expect 'a listed file is a FIFO' 3 200 'regular file' "$program" inspect b
rm -rf b && cp -r "$bundle" b && rm -f b/memory.yaml && ln -s /etc/passwd b/memory.yaml
expect 'memory.yaml is a link to another file' 3 200 'memory.yaml' "$program" inspect b
chosen memory.yaml && verdict 'whose contents are not quoted' "$(grep -q root: log && echo no || echo yes)" "$(said)"
python3 -c 'print("{a: " * 100000)' > deep.yaml
SECONDS_EACH=5 expect 'a configuration of 100,000 levels' '2|3' 200 'deep.yaml' "$program" config --config deep.yaml
printf 'sampling:\n  seed: 1\n  seed: 2\n' > twice.yaml
expect 'a configuration with a key twice' '2|3' 200 'duplicate\|twice' "$program" config --config twice.yaml
cp a.png $'n\e[31m\nx.png' && echo none > $'n\e[31m\nx.png'
expect 'a name with an escape code' 1 400 'u{1b}' "$program" restore $'n\e[31m\nx.png' -o e.png "${quick[@]}"

echo '== outputs that go away, and stopping'
frames() { restore fr -o "$1" --frames "${@:2}"; }
mkdir fr && cp f_*.png fr
if chosen output; then
  "$program" restore fr -o pipe "${quick[@]}" 2>&1 | head -1 > /dev/null
  codes=${PIPESTATUS[0]} count=$(find pipe -name '*.png' | wc -l)
  verdict 'output into head ends no batch' "$([ "$codes $count" = '0 12' ] && echo yes || echo no)" "exit $codes, $count of 12"
  "$program" restore fr -o full "${quick[@]}" 2> /dev/full
  code=$? count=$(find full -name '*.png' | wc -l)
  verdict 'nor does a full disk below the log' "$([ "$code $count" = '0 12' ] && echo yes || echo no)" "exit $code, $count of 12"
fi
if chosen fifo; then
  mkdir ff && mkfifo ff/a.png && cp a_0.png ff
  SECONDS_EACH=30 expect 'fifo: one in the folder of inputs' '0|1' 600 '' "$program" restore ff -o ffo "${quick[@]}"
fi
if chosen killed; then
  for try in 1 2 3 4 5; do
    "$program" restore fr -o out --frames --overwrite "${quick[@]}" --upscale 20 > /dev/null 2>&1 &
    p=$!
    # Until a temporary file shows.
    until find out -name '.diffbir-*' -not -name '*.json' 2> /dev/null | grep -q . || ! kill -0 $p 2> /dev/null; do :; done
    kill -9 $p 2> /dev/null
    wait $p 2> /dev/null
  done
  rm -rf c3 && mkdir -p c3/runtime/.staging-x
  env DIFFBIR_CACHE="$work/c3" PIP_NO_INDEX=1 "$program" runtime install > log 2>&1
  verdict 'killed: half an installation is removed' "$([ -e c3/runtime/.staging-x ] && echo no || echo yes)" 'it stays'
  restore fr -o out --frames --overwrite
  left=$(find out -name '.*' -type f -size +0 -not -name '*.json' -not -name '*.lock' -not -name '*ledger*' | wc -l)
  verdict 'killed: temporary files are removed by the next run' "$([ "$left" -eq 0 ] && echo yes || echo no)" "$left left"
fi
if chosen two; then
  for seed in 1 2; do
    "$program" restore fr -o two --frames "${quick[@]}" --seed $seed > two$seed.log 2>&1 &
    runs[seed]=$!
  done
  wait "${runs[1]}"; first=$?
  wait "${runs[2]}"; second=$?
  seeds=$(grep -aoh '"seed":[0-9]*' two/*.png | sort -u | wc -l)
  right=no
  if [ "$seeds" -eq 1 ] && [ $((first + second)) -gt 0 ] && [ $((first * second)) -eq 0 ]; then right=yes; fi
  verdict 'two runs with other settings in one folder: one is refused' $right "exits $first $second, results of $seeds seeds"
fi

if chosen host && command -v cc > /dev/null && [ -e "$library" ]; then
  echo '== hosts of the C ABI'
  cat > host.c <<'C'
/* host BUNDLE SETTING STEPS: a request of 16x16 pixels; with STEPS above 100 main returns while it runs. */
#include <stdio.h>
#include <stdlib.h>
#include "diffbir.h"

static void ask(diffbir_error *error) {
  if (!error) return;
  printf("refused with code %d\n", (int)diffbir_error_code(error));
  exit(0);
}

int main(int count, char **arguments) {
  static unsigned char values[16 * 16 * 3];
  diffbir_engine_options engine_options;
  diffbir_options options;
  diffbir_pixels pixels;
  diffbir_engine *engine = NULL;
  diffbir_request *request = NULL;
  if (count < 4) return 9;
  DIFFBIR_INIT(diffbir_engine_options, &engine_options);
  engine_options.bundle = arguments[1];
  ask(diffbir_engine_new(&engine_options, &engine));
  ask(diffbir_request_new(engine, &request));
  DIFFBIR_INIT(diffbir_pixels, &pixels);
  pixels.data = values;
  pixels.size = sizeof values;
  pixels.width = pixels.height = 16;
  ask(diffbir_request_set_pixels(request, &pixels));
  DIFFBIR_INIT(diffbir_options, &options);
  const char *settings[] = {arguments[2]};
  options.sampler = "ddim";
  options.upscale = 1;
  options.steps = strtoul(arguments[3], NULL, 10);
  options.settings = settings;
  options.setting_count = 1;
  ask(diffbir_request_set_options(request, &options));
  if (options.steps <= 100) {
    ask(diffbir_request_run(request));
  } else {
    ask(diffbir_request_submit(request));
  }
  printf("ends by itself\n");
  return 0;
}
C
  cp "$library" libdiffbir.so.1
  if cc -I"$root/include" host.c -o host ./libdiffbir.so.1 -Wl,-rpath,"$work"; then
    for setting in restore.upscale=1e12 sampling.samples=18446744073709551615 sampling.strength=1e38 \
      "runtime.options$(printf '.a%.0s' $(seq 10000))=1"; do
      expect "host: survives ${setting:0:40}" 0 900 'refused\|ends' ./host "$bundle" "$setting" 1
    done
    crashes=0
    for _ in $(seq 20); do ./host "$bundle" sampling.seed=1 900 > log 2>&1 || crashes=$((crashes + 1)); done
    verdict 'host: exit while a request runs' "$([ $crashes -eq 0 ] && echo yes || echo no)" "$crashes of 20 crash"
  fi
fi

echo "attacks: $tries tries, $failures failures"
[ $failures -eq 0 ]
