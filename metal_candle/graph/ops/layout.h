// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rearranging elements. reshape (where strides allow), transpose, slice and what is made of them
// are views: they cost no memory traffic. Any dtype; axes may be negative; ShapeError for what does
// not fit. An operation that would change nothing returns x itself.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "metal_candle/graph/ops/creation.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// The same elements in row-major order. One length may be -1: it is what is left.
[[nodiscard]] Tensor reshape(const Tensor& x, const Shape& shape);
/// Axes first .. last (inclusive) become one; a scalar becomes [1].
[[nodiscard]] Tensor flatten(const Tensor& x, int first = 0, int last = -1);
/// Axes reversed.
[[nodiscard]] Tensor transpose(const Tensor& x);
/// Output axis i is axis axes[i] of x.
[[nodiscard]] Tensor transpose(const Tensor& x, const Axes& axes);
[[nodiscard]] inline Tensor permute(const Tensor& x, const Axes& axes) {
  return transpose(x, axes);
}
[[nodiscard]] Tensor swapaxes(const Tensor& x, int a, int b);
/// Axis `from` goes to position `to`; the others keep their order.
[[nodiscard]] Tensor moveaxis(const Tensor& x, int from, int to);
/// Without any axis of length 1.
[[nodiscard]] Tensor squeeze(const Tensor& x);
/// Without these axes, which must have length 1.
[[nodiscard]] Tensor squeeze(const Tensor& x, int axis);
[[nodiscard]] Tensor squeeze(const Tensor& x, const Axes& axes);
/// With axes of length 1 at these positions of the output.
[[nodiscard]] Tensor expand_dims(const Tensor& x, int axis);
[[nodiscard]] Tensor expand_dims(const Tensor& x, const Axes& axes);
[[nodiscard]] Tensor broadcast_to(const Tensor& x, const Shape& shape);
/// Reversed along one axis, some, or all.
[[nodiscard]] Tensor flip(const Tensor& x, int axis);
[[nodiscard]] Tensor flip(const Tensor& x, const Axes& axes);
[[nodiscard]] Tensor flip(const Tensor& x);

/// x[starts[0]:stops[0]:steps[0], ...] for the leading axes, the others whole. As in Python,
/// negative bounds count from the end and bounds out of range are clamped; Range::kEnd is None.
/// Steps default to 1; ShapeError for a step of 0.
[[nodiscard]] Tensor slice(const Tensor& x, const Dims& starts, const Dims& stops,
                           const Dims& steps = {});

/// Joined along axis. Operands meet in promote(); other axes must agree. At least one operand.
[[nodiscard]] Tensor concatenate(std::span<const Tensor> tensors, int axis = 0);
[[nodiscard]] Tensor concatenate(std::initializer_list<Tensor> tensors, int axis = 0);
/// Joined along a new axis at that position of the output. Shapes must be equal.
[[nodiscard]] Tensor stack(std::span<const Tensor> tensors, int axis = 0);
[[nodiscard]] Tensor stack(std::initializer_list<Tensor> tensors, int axis = 0);
/// Equal parts; their number must divide the length of the axis.
[[nodiscard]] std::vector<Tensor> split(const Tensor& x, std::int64_t parts, int axis = 0);
/// Cut before each of these positions, which ascend.
[[nodiscard]] std::vector<Tensor> split_at(const Tensor& x, std::span<const std::int64_t> positions,
                                           int axis = 0);

namespace detail {
Tensor make_pad(const Tensor& x, const Dims& low, const Dims& high, Scalar value);
}  // namespace detail
/// low[i] elements of value before axis i and high[i] after it; neither negative.
template <ScalarValue T = int>
[[nodiscard]] Tensor pad(const Tensor& x, const Dims& low, const Dims& high, T value = 0) {
  return detail::make_pad(x, low, high, detail::to_scalar(value));
}
/// The whole of x, counts[i] times along axis i. The shorter of shape and counts is extended with
/// leading ones.
[[nodiscard]] Tensor tile(const Tensor& x, const Dims& counts);
/// Each element of axis, count times in a row.
[[nodiscard]] Tensor repeat(const Tensor& x, std::int64_t count, int axis);
/// Elements move by shift along axis; those that leave at one end return at the other.
[[nodiscard]] Tensor roll(const Tensor& x, std::int64_t shift, int axis);
/// Zero above (tril) or below (triu) the given diagonal of the last two axes.
[[nodiscard]] Tensor tril(const Tensor& x, std::int64_t diagonal = 0);
[[nodiscard]] Tensor triu(const Tensor& x, std::int64_t diagonal = 0);

/// x, through which no gradient flows.
[[nodiscard]] Tensor stop_gradient(const Tensor& x);

}  // namespace metal_candle
