// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A linear layer as models hold it: its weight as Hugging Face stores it, and perhaps a low-rank
// update beside it.
#pragma once

#include <cstdint>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// A low-rank update of a linear layer (Hu et al., "LoRA: Low-Rank Adaptation of Large Language
/// Models", 2021), stored as PEFT does.
struct LoraWeights {
  Tensor a;  // [rank, in]; the update is scale * b @ a. Any floating dtype.
  Tensor b;  // [out, rank]
  float scale = 1;
  double dropout = 0;  // Of the update's input, where a key is given.

  [[nodiscard]] bool empty() const { return a.empty(); }
};

/// A linear layer. A value: copying copies handles of tensors, so that layers which differ in their
/// update share one weight.
struct Linear {
  Tensor weight;  // [out, in]
  Tensor bias;    // [out], or empty.
  LoraWeights lora;

  [[nodiscard]] std::int64_t in_features() const { return weight.dim(1); }
  [[nodiscard]] std::int64_t out_features() const { return weight.dim(0); }

  /// x [..., in] -> [..., out], in the dtype of x, which is that of weight and bias. Drops elements
  /// of the update's input only if there is a key (random.h).
  [[nodiscard]] Tensor operator()(const Tensor& x, const Tensor& dropout_key = {}) const;
};

}  // namespace metal_candle
