#!/bin/sh
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Static analysis with the checks of .clang-tidy. Exits non-zero when there is a warning.
#
#   scripts/tidy.sh [PATH...]    (files or folders; all but the tests if there is none)
set -eu
cd "$(dirname "$0")/.."
scripts/install_dependencies.sh clang-tidy
[ $# -gt 0 ] || set -- metal_candle cli bench examples
cmake --preset release >/dev/null

git ls-files -z -- "$@" | grep -z '\.cpp$' |
  xargs -0 -r -n 1 -P "${JOBS:-$(nproc)}" clang-tidy --quiet -p build
