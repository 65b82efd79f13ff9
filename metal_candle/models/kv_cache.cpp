// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Caches of keys and values.
#include "metal_candle/models/kv_cache.h"

#include <fmt/format.h>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {

KvCache KvCache::make(const DecoderConfig& config, std::int64_t batch, std::int64_t capacity,
                      DType dtype, Device device) {
  if (batch < 1 || capacity < 1) {
    throw ShapeError(
        fmt::format("KvCache: batch {} and capacity {} must be positive", batch, capacity));
  }
  KvCache cache;
  const Shape shape = {batch, config.num_key_value_heads, capacity, config.head_dim};
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    cache.layers.push_back({zeros(shape, dtype, device), zeros(shape, dtype, device)});
  }
  cache.length = zeros({}, DType::kI32, device);
  eval(cache.tensors());
  return cache;
}

std::size_t KvCache::bytes() const {
  std::size_t bytes = 0;
  for (const Layer& layer : layers) {
    bytes += static_cast<std::size_t>(layer.keys.size() + layer.values.size()) *
             size_of(layer.keys.dtype());
  }
  return bytes;
}

std::vector<Tensor> KvCache::tensors() const {
  std::vector<Tensor> tensors;
  for (const Layer& layer : layers) {
    tensors.push_back(layer.keys);
    tensors.push_back(layer.values);
  }
  tensors.push_back(length);
  return tensors;
}

}  // namespace metal_candle
