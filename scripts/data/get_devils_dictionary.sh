#!/bin/sh
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Makes train.jsonl, valid.jsonl and test.jsonl of Ambrose Bierce's The Devil's Dictionary (1911, public
# domain) in a folder. The text is Debian's package dict-devil, which is unpacked, not installed.
#
#   scripts/data/get_devils_dictionary.sh FOLDER
set -eu
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ ! -s "$folder/test.jsonl" ] || exit 0

text=/usr/share/dictd/devil.dict.dz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ ! -f "$text" ]; then
  command -v apt-get >/dev/null || { echo "no apt-get to fetch dict-devil with: put devil.dict.dz into /usr/share/dictd" >&2; exit 1; }
  # apt's download user may not write into a private folder.
  chmod 755 "$work"
  (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download dict-devil >/dev/null 2>&1) ||
    { echo "apt-get download dict-devil failed; is there a network, and has apt-get update run?" >&2; exit 1; }
  dpkg-deb -x "$work"/dict-devil_*.deb "$work/dict-devil"
  text="$work/dict-devil/usr/share/dictd/devil.dict.dz"
fi
gzip -dc <"$text" | awk -v folder="$work" -f "$here/devils_dictionary.awk"
mv "$work/train.jsonl" "$work/valid.jsonl" "$folder/"
mv "$work/test.jsonl" "$folder/"  # Last: its presence says that all are there.
