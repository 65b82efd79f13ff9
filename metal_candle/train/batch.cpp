// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See batch.h.
#include "metal_candle/train/batch.h"

#include <fmt/format.h>

#include <vector>

#include "metal_candle/core/error.h"

namespace metal_candle {

TokenBatch make_token_batch(std::span<const std::int32_t> tokens,
                            std::span<const std::int32_t> targets, std::int64_t batch,
                            std::int64_t length) {
  const Shape shape{batch, length};
  const auto count = static_cast<std::size_t>(num_elements(shape));
  if (tokens.size() != count || targets.size() != count) {
    throw ShapeError(fmt::format("make_token_batch: {} tokens and {} targets for {}", tokens.size(),
                                 targets.size(), to_string(shape)));
  }
  std::vector<std::int32_t> lengths(static_cast<std::size_t>(batch), 0);
  for (std::size_t i = 0; i < count; ++i) {
    if (targets[i] == kIgnoredTarget) continue;
    const auto row = i / static_cast<std::size_t>(length);
    lengths[row] = static_cast<std::int32_t>(i % static_cast<std::size_t>(length)) + 1;
  }
  return {Tensor(tokens, shape), Tensor(targets, shape), Tensor(lengths, Shape{batch})};
}

}  // namespace metal_candle
