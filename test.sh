#!/bin/sh
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Installs what is missing, builds, and runs the tests. Exits non-zero when any of it fails.
set -eu
cd "$(dirname "$0")"

usage() {
  cat <<'TEXT'
usage: ./test.sh [--sanitize | --asan] [--fast] [--filter REGEX] [--device DEVICE]
       ./test.sh --fuzz [SECONDS]

  --sanitize      build and test under ASan+UBSan and under TSan, not the release build
  --asan          the same under ASan+UBSan alone
  --fast          only the bounded selection labelled "fast"
  --filter REGEX  only the ctest entries whose name matches, as in `ctest -R`
  --device DEVICE cuda, cuda:1, metal ...: what a device computes, there; tests of the host itself
                  are left out. Without a Mac, metal is a Metal in software (tests/metal_sim),
                  which a run without this option tests as well
  --fuzz          build the fuzzers with Clang, and run each for SECONDS (60)
  --help          this text

Entries are named <folder of tests/>.<test suite>; `ctest --test-dir build -N` lists them.
TEXT
}

presets="release"
fast=""
filter=""
device=""
fuzz_seconds=""
while [ $# -gt 0 ]; do
  case "$1" in
    --sanitize) presets="asan tsan" ;;
    --asan) presets="asan" ;;
    --fast) fast=yes ;;
    --filter)
      [ $# -ge 2 ] || { echo "--filter needs a regular expression" >&2; exit 2; }
      filter=$2
      shift ;;
    --device)
      [ $# -ge 2 ] || { echo "--device needs a device" >&2; exit 2; }
      device=$2
      shift ;;
    --fuzz)
      fuzz_seconds=60
      case "${2:-}" in
        "" | *[!0-9]*) ;;
        *)
          fuzz_seconds=$2
          shift ;;
      esac ;;
    --help | -h) usage; exit 0 ;;
    *) echo "unknown argument: $1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

# Under sanitizers the bounded selection has builds of its own, with less of the library.
if [ -n "$fast" ]; then presets=$(echo "$presets" | sed 's/\([at]san\)/\1-fast/g'); fi

folder_of() { [ "$1" = release ] && echo build || echo "build-$1"; }

# GCC 12's ThreadSanitizer cannot map its shadow memory where the kernel randomises more bits of an
# address than this.
fixed_addresses() {
  bits=$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28)
  if [ "$bits" -gt 28 ] && setarch "$(uname -m)" -R true 2>/dev/null; then
    setarch "$(uname -m)" -R "$@"
  else
    "$@"
  fi
}

build() {
  # Sanitizers make GCC warn of what is not there, so only the release build is strict.
  options="-DMETAL_CANDLE_WERROR=OFF"
  [ "$1" = release ] && options="-DMETAL_CANDLE_WERROR=ON -DMETAL_CANDLE_CUDA=AUTO"
  # shellcheck disable=SC2086  # A list of words.
  cmake --preset "$1" $options
  if [ -n "$fast" ]; then set -- "$1" --target fast_tests; fi
  cmake --build --preset "$@"
}

run_tests() {
  preset=$1
  set -- --preset "$preset" --parallel "$(getconf _NPROCESSORS_ONLN)"
  if [ -n "$fast" ]; then set -- "$@" --label-regex '^fast$'; fi
  if [ -n "$device" ]; then
    export METAL_CANDLE_DEVICE="$device"
    set -- "$@" --label-exclude '^(backend.*|core|graph|io|project|install|examples|metal)$'
  fi
  if [ -n "$filter" ]; then set -- "$@" --tests-regex "$filter"; fi
  case "$preset" in
    tsan*) fixed_addresses ctest "$@" ;;
    *) ctest "$@" ;;
  esac
}

if [ -n "$fuzz_seconds" ]; then
  scripts/install_dependencies.sh clang
  cmake --preset fuzz
  cmake --build --preset fuzz
  exec scripts/fuzz.sh "$fuzz_seconds"
fi

scripts/install_dependencies.sh
logs=""
status=0
for preset in $presets; do
  echo "== $preset"
  build "$preset"
  run_tests "$preset" || status=1
  logs="$logs $(folder_of "$preset")/Testing/Temporary/LastTest.log"
done
# shellcheck disable=SC2086  # A list of words.
awk -f scripts/count_tests.awk $logs
exit $status
