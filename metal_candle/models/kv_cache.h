// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Keys and values of past positions, in memory of a fixed capacity, with the position as a tensor:
// so one plan serves every step of a generation.
#pragma once

#include <cstdint>
#include <vector>

#include "metal_candle/graph/tensor.h"
#include "metal_candle/models/decoder_config.h"

namespace metal_candle {

/// A forward pass replaces the tensors here by ones that hold more positions. Memory is written in
/// place as long as nobody else holds the old tensors, so do not keep copies of a cache that is in
/// use. Not thread safe: one cache serves one sequence of calls.
struct KvCache {
  struct Layer {
    Tensor keys;    // [batch, key heads, capacity, head_dim]
    Tensor values;  // The same.
  };
  std::vector<Layer> layers;
  Tensor length;  // i32 []: how many positions are filled.

  /// An empty cache.
  static KvCache make(const DecoderConfig& config, std::int64_t batch, std::int64_t capacity,
                      DType dtype, Device device = default_device());

  [[nodiscard]] std::int64_t batch() const { return layers.at(0).keys.dim(0); }
  [[nodiscard]] std::int64_t capacity() const { return layers.at(0).keys.dim(2); }
  [[nodiscard]] std::size_t bytes() const;
  /// All tensors, to be evaluated together with what a step gives.
  [[nodiscard]] std::vector<Tensor> tensors() const;
};

}  // namespace metal_candle
