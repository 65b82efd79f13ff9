#!/bin/sh
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Makes the model of assets/definitions-5m again: its data from WordNet, its tokenizer, its weights by this
# project's own full fine-tuning from random ones. About 20 minutes on 16 cores, two hours on two.
#
#   scripts/base_model/train.sh [FOLDER]    (build/base_model if none)
#
# Needs build/bin/metal-candle, Python with the package tokenizers (PYTHON names it), and Debian's
# package wordnet-base, which is fetched and unpacked, not installed.
set -eu
cd "$(dirname "$0")/../.."
work=${1:-build/base_model}
candle=build/bin/metal-candle
mkdir -p "$work/data" "$work/model"

if [ ! -s "$work/data/train.jsonl" ]; then
  (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download wordnet-base && dpkg-deb -x wordnet-base_*.deb wordnet)
  glosses="$work/wordnet/usr/share/wordnet"
  awk -v folder="$work/data" -f scripts/data/wordnet.awk \
    "$glosses/data.noun" "$glosses/data.verb" "$glosses/data.adj" "$glosses/data.adv"
fi
cp scripts/base_model/config.json "$work/model/"
"${PYTHON:-python3}" scripts/base_model/make_tokenizer.py "$work/data/train.jsonl" "$work/model"

# One pass over the data.
"$candle" train --train --random-init --fine-tune-type full --num-layers -1 \
  --model "$work/model" --data "$work/data" --adapter-path "$work/trained" \
  --iters 1691 --batch-size 128 --max-seq-length 128 \
  --learning-rate 2e-3 --lr-schedule cosine --final-learning-rate 2e-5 --warmup 300 --weight-decay 0.1 \
  --steps-per-report 100 --steps-per-eval 1000 --val-batches -1 --save-every 2000

"$candle" fuse --model "$work/trained" --dtype bf16 --save-path "$work/definitions-5m"
