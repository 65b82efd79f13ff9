#!/bin/sh
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Installs what `metal-candle bench --compare torch,mlx,jax` compares with, from PyPI, into a virtual environment of its
# own: bench/setup_peers.sh [FOLDER]. It takes minutes and 6 GB. What cannot be installed is left out
# with a note: the bench does without it.
set -u

folder=${1:-"${XDG_CACHE_HOME:-$HOME/.cache}/metal-candle/peers"}
python=${PYTHON:-python3}

if [ ! -x "$folder/bin/python3" ]; then
  "$python" -m venv "$folder" || {
    echo "setup_peers: cannot make a virtual environment in $folder (on Debian: apt-get install python3-venv)" >&2
    exit 1
  }
fi

install() {
  echo "installing $*"
  "$folder/bin/python3" -m pip install --quiet --disable-pip-version-check --upgrade "$@" ||
    echo "setup_peers: without $*" >&2
}

mlx=mlx jax=jax
if [ "$(uname -s)" = Linux ]; then
  if [ -e /proc/driver/nvidia/version ]; then mlx='mlx[cuda13]' jax='jax[cuda13]'; else mlx='mlx[cpu]'; fi
fi
install torch
install transformers peft
install "$mlx"
install "$jax"

"$folder/bin/python3" - <<'PYTHON'
from importlib import metadata
for name in ("torch", "transformers", "peft", "mlx", "jax"):
    try:
        print(f"{name:14}{metadata.version(name)}")
    except metadata.PackageNotFoundError:
        print(f"{name:14}not installed")
PYTHON
echo "now: METAL_CANDLE_PYTHON=$folder/bin/python3 build/bin/metal-candle bench --suite ops --compare torch,mlx,jax"
