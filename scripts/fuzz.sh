#!/bin/sh
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzzer of build-fuzz/ for a while, from the seeds in fuzz/corpus/ and what earlier runs
# found in build-fuzz/corpus/. Exits non-zero when one crashes, hangs or leaks.
#
#   scripts/fuzz.sh [SECONDS EACH]
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
status=0
mkdir -p build-fuzz/crashes
for fuzzer in build-fuzz/fuzz/*_fuzzer; do
  name=$(basename "$fuzzer" _fuzzer)
  found=build-fuzz/corpus/$name
  log=build-fuzz/$name.log
  mkdir -p "$found"
  set -- -max_total_time="$seconds" -timeout=10 -artifact_prefix="build-fuzz/crashes/$name-"
  if [ -f "fuzz/dictionaries/$name.dict" ]; then set -- "$@" -dict="fuzz/dictionaries/$name.dict"; fi
  if "$fuzzer" "$@" "$found" "fuzz/corpus/$name" >"$log" 2>&1; then
    echo "$name: $(grep '^Done' "$log")"
  else
    status=1
    tail -n 40 "$log"
    crash=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    echo "$name: failed; all of it is in $log. To replay: $fuzzer $crash"
  fi
done
exit $status
