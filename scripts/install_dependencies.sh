#!/bin/sh
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Installs, on Debian 12 and with Homebrew on macOS, what building and testing need and is not there
# yet. Does nothing, and needs no rights, when nothing is missing.
#
#   scripts/install_dependencies.sh [PACKAGE...]    (these too)
set -eu

# oneDNN's CMake package looks for OpenCL, which libdnnl-dev only recommends.
packages="
  ccache cmake g++ ninja-build
  libdnnl-dev ocl-icd-opencl-dev
  libhwy-dev libfmt-dev
  libcli11-dev nlohmann-json3-dev libyaml-cpp-dev
  libonig-dev libutf8proc-dev
  libgtest-dev libgmock-dev
  $*"

if [ "$(uname)" = Darwin ]; then
  if ! command -v brew >/dev/null; then
    echo "Install Homebrew (https://brew.sh) first." >&2
    exit 1
  fi
  formulas="ccache cmake ninja onednn highway fmt cli11 nlohmann-json yaml-cpp oniguruma utf8proc
    googletest libomp pkgconf"
  missing=""
  installed=$(brew list --formula -1)
  for formula in $formulas; do
    echo "$installed" | grep -qx "$formula" || missing="$missing $formula"
  done
  # shellcheck disable=SC2086  # A list of words.
  [ -z "$missing" ] || HOMEBREW_NO_AUTO_UPDATE=1 brew install --quiet $missing
  exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  # shellcheck disable=SC2086  # A list of words.
  echo "Not a Debian system: install the equivalents of" $packages >&2
  exit 0
fi

missing=""
for package in $packages; do
  # Unlike `dpkg -s`, this does not take a removed package's leftover configuration for installed.
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=""
  [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "Missing packages:$missing. Run as root, or install sudo." >&2
    exit 1
  fi
  as_root="sudo"
fi

echo "Installing:$missing"
apt() {
  $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null >/dev/null
}
apt update
# shellcheck disable=SC2086  # A list of words.
apt install -y --no-install-recommends $missing
