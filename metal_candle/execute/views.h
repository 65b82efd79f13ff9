// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Layout arithmetic: which operations are views, and what they make of strides.
#pragma once

#include <cstdint>
#include <optional>

#include "metal_candle/graph/operation.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle {

/// A layout and where it begins, in elements, relative to its input's beginning.
struct View {
  TensorLayout layout;
  std::int64_t offset = 0;
};

/// What `operation` makes of its input as a view, with the given output shape; nothing if it needs
/// a copy or is not a view operation at all.
[[nodiscard]] std::optional<View> view_of(const Operation& operation, const TensorLayout& input,
                                          const Shape& output_shape);

}  // namespace metal_candle
