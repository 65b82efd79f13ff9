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

/// x [..., n] -> [..., 1]: the least element of those before which, in descending order, less than
/// p of softmax(x) lies, so that x >= top_p_threshold(x, p) is the nucleus of Holtzman et al. ("The
/// curious case of neural text degeneration", 2019), with all elements that equal the last.
/// Infinity where softmax(x) is NaN. Integers become f32. Throws ShapeError for a scalar or n = 0,
/// Error unless p is in (0, 1].
[[nodiscard]] Tensor top_p_threshold(const Tensor& x, float p);

}  // namespace metal_candle
