// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reductions and running reductions.
#include "metal_candle/graph/ops/reduce.h"

#include <algorithm>

#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/elementwise.h"
#include "metal_candle/graph/ops/layout.h"

namespace metal_candle {
namespace {

using detail::make_node;

Tensor reduce(ReduceKind kind, const char* op, const Tensor& x, const AxesArgument& argument,
              bool keepdims) {
  const Axes axes = argument.normalized(op, x.rank());
  return axes.empty() ? x : make_node(op::Reduce{kind, axes, keepdims}, {&x});
}

std::int64_t reduced_count(const Tensor& x, const Axes& axes) {
  std::int64_t count = 1;
  for (const std::int64_t axis : axes) count *= x.shape()[static_cast<int>(axis)];
  return count;
}

// A maximum or minimum: of bools it is any() or all().
Tensor extreme(ReduceKind kind, ReduceKind kind_of_bools, const char* op, const Tensor& x,
               const AxesArgument& axes, bool keepdims) {
  const bool is_bool = detail::require(op, x).dtype() == DType::kBool;
  return reduce(is_bool ? kind_of_bools : kind, op, x, axes, keepdims);
}

// What has no bool kernel works on u8, which orders the same.
Tensor as_ordered(const Tensor& x) { return x.dtype() == DType::kBool ? astype(x, DType::kU8) : x; }

Tensor arg_reduce(bool is_max, const Tensor& x, int axis, bool keepdims) {
  const char* op = is_max ? "argmax" : "argmin";
  const int normal = normalize_axis(op, axis, detail::require(op, x).rank());
  const Tensor ordered = as_ordered(x);
  const Tensor result = make_node(op::ArgReduce{is_max, normal}, {&ordered});
  return keepdims ? expand_dims(result, normal) : result;
}

Tensor cumulative(ReduceKind kind, const char* op, const Tensor& x, int axis, bool reverse) {
  return make_node(op::Cumulative{kind, normalize_axis(op, axis, x.rank()), reverse}, {&x});
}

// The mean of x in f32 or wider, kept in that type.
Tensor wide_mean(const Tensor& wide, const Axes& axes, bool keepdims, std::int64_t count) {
  return sum(wide, axes, keepdims) / static_cast<double>(count);
}

DType result_dtype(const Tensor& x) { return is_floating(x.dtype()) ? x.dtype() : DType::kF32; }

}  // namespace

Axes AxesArgument::normalized(const char* op, int rank) const {
  Axes result;
  if (all_) {
    for (int i = 0; i < rank; ++i) result.push_back(i);
    return result;
  }
  return detail::normalize_axes(op, axes_, rank);
}

Tensor sum(const Tensor& x, const AxesArgument& axes, bool keepdims) {
  return reduce(ReduceKind::kSum, "sum", detail::to_accumulator(detail::require("sum", x)), axes,
                keepdims);
}

Tensor prod(const Tensor& x, const AxesArgument& axes, bool keepdims) {
  return reduce(ReduceKind::kProd, "prod", detail::to_accumulator(detail::require("prod", x)), axes,
                keepdims);
}

Tensor max(const Tensor& x, const AxesArgument& axes, bool keepdims) {
  return extreme(ReduceKind::kMax, ReduceKind::kAny, "max", x, axes, keepdims);
}

Tensor min(const Tensor& x, const AxesArgument& axes, bool keepdims) {
  return extreme(ReduceKind::kMin, ReduceKind::kAll, "min", x, axes, keepdims);
}

Tensor any(const Tensor& x, const AxesArgument& axes, bool keepdims) {
  return reduce(ReduceKind::kAny, "any", astype(x, DType::kBool), axes, keepdims);
}

Tensor all(const Tensor& x, const AxesArgument& axes, bool keepdims) {
  return reduce(ReduceKind::kAll, "all", astype(x, DType::kBool), axes, keepdims);
}

Tensor mean(const Tensor& x, const AxesArgument& axes, bool keepdims) {
  const Axes reduced = axes.normalized("mean", detail::require("mean", x).rank());
  // The sum of a long f16 axis would overflow before it is divided.
  const Tensor wide = astype(x, DType::kF32);
  return astype(wide_mean(wide, reduced, keepdims, reduced_count(x, reduced)), result_dtype(x));
}

Tensor variance(const Tensor& x, const AxesArgument& axes, bool keepdims, int ddof) {
  const Axes reduced = axes.normalized("variance", detail::require("variance", x).rank());
  const Tensor wide = astype(x, DType::kF32);
  const std::int64_t count = reduced_count(x, reduced);
  const Tensor centred = wide - wide_mean(wide, reduced, true, count);
  const std::int64_t freedom = std::max<std::int64_t>(count - ddof, 0);
  return astype(wide_mean(square(centred), reduced, keepdims, freedom), result_dtype(x));
}

Tensor std_dev(const Tensor& x, const AxesArgument& axes, bool keepdims, int ddof) {
  const DType dtype = result_dtype(detail::require("std_dev", x));
  return astype(sqrt(variance(astype(x, DType::kF32), axes, keepdims, ddof)), dtype);
}

Tensor logsumexp(const Tensor& x, const AxesArgument& axes, bool keepdims) {
  const Axes reduced = axes.normalized("logsumexp", detail::require("logsumexp", x).rank());
  Tensor result = detail::to_floating(x);
  if (reduced.empty()) return result;
  if (reduced.rank() == 1) {
    return make_node(op::LogSumExp{static_cast<int>(reduced[0]), keepdims}, {&result});
  }
  // Several axes are moved to the end and made one.
  Axes order;
  Shape kept;
  Shape kept_dims = x.shape();
  for (int i = 0; i < x.rank(); ++i) {
    if (std::find(reduced.begin(), reduced.end(), i) != reduced.end()) {
      kept_dims[i] = 1;
      continue;
    }
    order.push_back(i);
    kept.push_back(x.shape()[i]);
  }
  const int last = kept.rank();
  for (const std::int64_t axis : reduced) order.push_back(axis);
  kept.push_back(reduced_count(x, reduced));
  result = reshape(transpose(result, order), kept);
  result = make_node(op::LogSumExp{last, false}, {&result});
  return keepdims ? reshape(result, kept_dims) : result;
}

Tensor norm(const Tensor& x, const AxesArgument& axes, bool keepdims) {
  const DType dtype = result_dtype(detail::require("norm", x));
  return astype(sqrt(sum(square(astype(x, DType::kF32)), axes, keepdims)), dtype);
}

Tensor argmax(const Tensor& x, int axis, bool keepdims) {
  return arg_reduce(true, x, axis, keepdims);
}
Tensor argmin(const Tensor& x, int axis, bool keepdims) {
  return arg_reduce(false, x, axis, keepdims);
}
Tensor argmax(const Tensor& x) { return arg_reduce(true, flatten(x), 0, false); }
Tensor argmin(const Tensor& x) { return arg_reduce(false, flatten(x), 0, false); }

Tensor cumsum(const Tensor& x, int axis, bool reverse) {
  return cumulative(ReduceKind::kSum, "cumsum",
                    detail::to_accumulator(detail::require("cumsum", x)), axis, reverse);
}

Tensor cumprod(const Tensor& x, int axis, bool reverse) {
  return cumulative(ReduceKind::kProd, "cumprod",
                    detail::to_accumulator(detail::require("cumprod", x)), axis, reverse);
}

Tensor cummax(const Tensor& x, int axis, bool reverse) {
  const Tensor ordered = as_ordered(detail::require("cummax", x));
  return astype(cumulative(ReduceKind::kMax, "cummax", ordered, axis, reverse), x.dtype());
}

Tensor cummin(const Tensor& x, int axis, bool reverse) {
  const Tensor ordered = as_ordered(detail::require("cummin", x));
  return astype(cumulative(ReduceKind::kMin, "cummin", ordered, axis, reverse), x.dtype());
}

}  // namespace metal_candle
