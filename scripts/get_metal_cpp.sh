#!/bin/sh
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Puts Apple's metal-cpp headers in FOLDER (FOLDER/Metal/Metal.hpp), as MLX's wheel for macOS carries
# them: one version, checked against its SHA-256.
#
#   scripts/get_metal_cpp.sh FOLDER
set -eu
folder=$1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/requirements.txt" <<'TEXT'
mlx-metal==0.32.4 --hash=sha256:8019b2db622599267d66cc168b2f0dbf5af929790a6c3b3913e00eabc42a7947
TEXT
python3 -m pip --disable-pip-version-check --quiet download --requirement "$work/requirements.txt" \
  --require-hashes --no-deps --only-binary :all: --platform macosx_14_0_arm64 --dest "$work"
(cd "$work" && cmake -E tar xf mlx_metal-*.whl mlx/include/metal_cpp)
mkdir -p "$folder"
cp -R "$work/mlx/include/metal_cpp/." "$folder"
