#!/bin/sh
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# The main job on real input: installs what is missing, builds, and fine-tunes the small language model of
# assets/ on The Devil's Dictionary. Everything it makes is in build/.
set -eu
cd "$(dirname "$0")"

model=assets/definitions-5m
data=build/devils_dictionary
out=build/devil_adapter
candle=build/bin/metal-candle

scripts/install_dependencies.sh
# GPU kernels take minutes to compile: those of the GPUs that are here, if any.
gpus=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -u | tr -d . | sed 's/^90$/90a/' |
  paste -sd ';' -)
if [ -n "$gpus" ]; then
  set -- -DMETAL_CANDLE_CUDA=AUTO "-DMETAL_CANDLE_CUDA_ARCHITECTURES=$gpus"
else
  set -- -DMETAL_CANDLE_CUDA=OFF
fi
cmake --preset release "$@" >build.log 2>&1 || { cat build.log; exit 1; }
echo "Building (the first time takes some minutes) ..."
cmake --build --preset release --target metal_candle_cli >build.log 2>&1 || { tail -40 build.log; exit 1; }
mv build.log build/run.log
scripts/data/get_devils_dictionary.sh "$data"

words="love politician year"
ask() {
  for word in $words; do
    printf '  Define %s.\n    ' "$word"
    "$candle" generate --model "$model" --prompt "Define $word." --max-tokens 60 --temp 0.5 --top-p 0.9 \
      --repetition-penalty 1.2 --seed 7 --quiet "$@"
  done
}

echo
echo "The base model, trained on WordNet's definitions:"
ask
before=$("$candle" evaluate --model "$model" --data "$data" --mask-prompt --json)

echo
echo "Fine-tuning with LoRA on The Devil's Dictionary:"
rm -rf "$out"
"$candle" train --train --model "$model" --data "$data" --adapter-path "$out" --mask-prompt \
  --iters 150 --batch-size 8 --learning-rate 2e-3 --lr-schedule cosine --warmup 10 --num-layers -1 \
  --rank 16 --alpha 32 --target-modules all-linear --max-seq-length 256 \
  --steps-per-report 25 --steps-per-eval 75 --val-batches 6

echo
echo "The same prompts afterwards:"
ask --adapter-path "$out"
after=$("$candle" evaluate --model "$model" --data "$data" --adapter-path "$out" --mask-prompt --json)

perplexity() { printf '%s' "$1" | sed 's/.*"perplexity":\([0-9.]*\).*/\1/'; }
echo
printf 'Perplexity on entries it has not seen: %.1f before, %.1f after.\n' \
  "$(perplexity "$before")" "$(perplexity "$after")"

echo
echo "The same training steps in the three modes:"
printf '  %-28s %10s %10s %12s\n' mode "ms a step" tokens/s "peak memory"
field() { printf '%s' "$1" | sed "s/.*\"$2\":\([0-9.e+-]*\).*/\1/"; }
for mode in eager sync async; do
  result=$("$candle" train --train --mode "$mode" --model "$model" --data "$data" --mask-prompt \
    --adapter-path "build/mode_$mode" --iters 24 --batch-size 8 --num-layers -1 --rank 16 \
    --target-modules all-linear --max-seq-length 128 --steps-per-report 12 --val-batches 1 --json)
  case "$mode" in
    eager) label="eager: operation by operation" ;;
    sync) label="sync: lazy and fused" ;;
    async) label="async: fused and queued" ;;
  esac
  printf '  %-28s %10.1f %10.0f %9.0f MB\n' "$label" \
    "$(field "$result" seconds_per_iteration | awk '{print 1000 * $1}')" \
    "$(field "$result" tokens_per_second)" "$(field "$result" peak_memory | awk '{print $1 / 1e6}')"
done

echo
echo "Report: $out/report.html    Adapter (PEFT's format): $out"
echo "Ask it yourself: $candle generate --model $model --adapter-path $out --prompt 'Define money.'"
