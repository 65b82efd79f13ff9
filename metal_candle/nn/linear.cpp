// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Linear layers with low-rank updates.
#include "metal_candle/nn/linear.h"

#include "metal_candle/graph/ops.h"

namespace metal_candle {

Tensor Linear::operator()(const Tensor& x, const Tensor& dropout_key) const {
  if (lora.empty()) return linear(x, transpose(weight), bias);
  const Tensor a = transpose(astype(lora.a, x.dtype()));
  const Tensor b = transpose(astype(lora.b, x.dtype()));
  if (lora.dropout > 0 && !dropout_key.empty()) {
    const Tensor dropped = random::dropout(x, lora.dropout, dropout_key);
    return linear(x, transpose(weight), bias) + metal_candle::lora(dropped, a, b, lora.scale);
  }
  return lora_linear(x, transpose(weight), a, b, lora.scale, bias);
}

}  // namespace metal_candle
