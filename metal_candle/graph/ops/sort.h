// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sorting along an axis: stable, with NaN last in both orders. Any dtype. Throws ShapeError for an
// axis out of range.
#pragma once

#include <cstdint>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

[[nodiscard]] Tensor sort(const Tensor& x, int axis = -1, bool descending = false);
/// i32: the permutation that sort() applies.
[[nodiscard]] Tensor argsort(const Tensor& x, int axis = -1, bool descending = false);

struct TopK {
  Tensor values;
  Tensor indices;  // i32.
};
/// The k largest along axis, in descending order; equal ones in order of position. Throws
/// ShapeError unless 0 <= k <= the length of the axis.
[[nodiscard]] TopK topk(const Tensor& x, std::int64_t k, int axis = -1);

}  // namespace metal_candle
