// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reductions and running reductions.
//
// Axes may be negative; ShapeError when out of range or given twice. Reduced axes vanish, or become
// 1 with keepdims. f16 and bf16 accumulate in f32.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// The axes of a reduction: all of them (`{}`), one (`-1`) or a list (`{0, 2}`, an Axes). An empty
/// Axes reduces nothing.
class AxesArgument {
 public:
  AxesArgument() = default;
  template <std::integral T>
  requires(!std::same_as<T, bool>) AxesArgument(T axis)  // NOLINT(google-explicit-constructor)
      : axes_{static_cast<std::int64_t>(axis)}, all_(false) {}
  AxesArgument(const Axes& axes)  // NOLINT(google-explicit-constructor)
      : axes_(axes), all_(false) {}
  AxesArgument(std::initializer_list<std::int64_t> axes) : axes_(axes), all_(false) {}

  /// Ascending and not negative. Throws ShapeError naming `op`.
  [[nodiscard]] Axes normalized(const char* op, int rank) const;

 private:
  Axes axes_;
  bool all_ = true;
};

/// bool, i8 and u8 are summed (and multiplied) as i32; otherwise the dtype of x. Nothing sums to 0.
[[nodiscard]] Tensor sum(const Tensor& x, const AxesArgument& axes = {}, bool keepdims = false);
[[nodiscard]] Tensor prod(const Tensor& x, const AxesArgument& axes = {}, bool keepdims = false);
/// NaN if any element is. Throws ShapeError when an axis of length 0 is reduced.
[[nodiscard]] Tensor max(const Tensor& x, const AxesArgument& axes = {}, bool keepdims = false);
[[nodiscard]] Tensor min(const Tensor& x, const AxesArgument& axes = {}, bool keepdims = false);
/// bool: elements count as x != 0.
[[nodiscard]] Tensor any(const Tensor& x, const AxesArgument& axes = {}, bool keepdims = false);
[[nodiscard]] Tensor all(const Tensor& x, const AxesArgument& axes = {}, bool keepdims = false);

// Floating: integers give f32.
[[nodiscard]] Tensor mean(const Tensor& x, const AxesArgument& axes = {}, bool keepdims = false);
/// The mean of (x - mean)^2, with n - ddof in the place of n.
[[nodiscard]] Tensor variance(const Tensor& x, const AxesArgument& axes = {}, bool keepdims = false,
                              int ddof = 0);
/// sqrt(variance).
[[nodiscard]] Tensor std_dev(const Tensor& x, const AxesArgument& axes = {}, bool keepdims = false,
                             int ddof = 0);
/// log(sum(exp(x))), without overflow. Throws ShapeError when an axis of length 0 is reduced.
[[nodiscard]] Tensor logsumexp(const Tensor& x, const AxesArgument& axes = {},
                               bool keepdims = false);
/// The 2-norm: sqrt(sum(x^2)).
[[nodiscard]] Tensor norm(const Tensor& x, const AxesArgument& axes = {}, bool keepdims = false);

/// i32: the index of the first maximum along axis; NaN counts as the maximum. ShapeError when the
/// axis has length 0.
[[nodiscard]] Tensor argmax(const Tensor& x, int axis, bool keepdims = false);
[[nodiscard]] Tensor argmin(const Tensor& x, int axis, bool keepdims = false);
/// i32 []: of x flattened.
[[nodiscard]] Tensor argmax(const Tensor& x);
[[nodiscard]] Tensor argmin(const Tensor& x);

/// Running totals along axis, from its end when reverse. Dtypes as sum() has them.
[[nodiscard]] Tensor cumsum(const Tensor& x, int axis, bool reverse = false);
[[nodiscard]] Tensor cumprod(const Tensor& x, int axis, bool reverse = false);
[[nodiscard]] Tensor cummax(const Tensor& x, int axis, bool reverse = false);
[[nodiscard]] Tensor cummin(const Tensor& x, int axis, bool reverse = false);

}  // namespace metal_candle
