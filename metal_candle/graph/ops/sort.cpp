// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sorting.
#include "metal_candle/graph/ops/sort.h"

#include <fmt/format.h>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/index.h"

namespace metal_candle {
namespace {

using detail::make_node;

// bool orders as u8 does.
Tensor as_ordered(const Tensor& x) {
  return x.dtype() == DType::kBool ? detail::cast_to(x, DType::kU8) : x;
}

}  // namespace

Tensor sort(const Tensor& x, int axis, bool descending) {
  const int normal = normalize_axis("sort", axis, detail::require("sort", x).rank());
  const Tensor ordered = as_ordered(x);
  return detail::cast_to(make_node(op::Sort{normal, descending}, {&ordered}), x.dtype());
}

Tensor argsort(const Tensor& x, int axis, bool descending) {
  const int normal = normalize_axis("argsort", axis, detail::require("argsort", x).rank());
  const Tensor ordered = as_ordered(x);
  return make_node(op::ArgSort{normal, descending}, {&ordered});
}

TopK topk(const Tensor& x, std::int64_t k, int axis) {
  const int normal = normalize_axis("topk", axis, detail::require("topk", x).rank());
  if (k < 0 || k > x.shape()[normal]) {
    throw ShapeError(
        fmt::format("topk: k = {} does not fit axis {} of {}", k, normal, to_string(x.shape())));
  }
  Shape shape = x.shape();
  shape[normal] = k;
  const Tensor ordered = as_ordered(x);
  const Tensor indices = make_node(op::ArgTopK{normal}, {&ordered}, {shape, DType::kI32});
  return {take_along_axis(x, indices, normal), indices};
}

Tensor top_p_threshold(const Tensor& x, float p) {
  static_cast<void>(
      normalize_axis("top_p_threshold", -1, detail::require("top_p_threshold", x).rank()));
  if (!(p > 0 && p <= 1)) throw Error(fmt::format("top_p_threshold: p is {}, not in (0, 1]", p));
  const Tensor floating = detail::to_floating(x);
  return make_node(op::TopPThreshold{p}, {&floating});
}

}  // namespace metal_candle
