// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rotary positions of a decoder, with the stretchings of RopeScaling.
#pragma once

#include "metal_candle/graph/tensor.h"
#include "metal_candle/models/decoder_config.h"

namespace metal_candle {

/// Rotates queries and keys. A value; const methods are thread safe.
class RotaryEmbedding {
 public:
  explicit RotaryEmbedding(const DecoderConfig& config, Device device = default_device());

  /// The frequencies for a sequence that ends before position `end` (integer []): f32
  /// [head_dim / 2]. They depend on `end` only with dynamic scaling.
  [[nodiscard]] Tensor frequencies(const Tensor& end) const;
  /// x [batch, heads, length, head_dim] rotated by positions offset (integer []), offset + 1, ...
  [[nodiscard]] Tensor rotate(const Tensor& x, const Tensor& offset,
                              const Tensor& frequencies) const;

 private:
  Tensor frequencies_;  // f32 [head_dim / 2], evaluated, without dynamic scaling.
  float position_scale_ = 1;
  bool dynamic_ = false;
  double factor_ = 1;
  double base_ = 10000;
  std::int64_t original_positions_ = 0;
  std::int64_t head_dim_ = 0;
};

}  // namespace metal_candle
