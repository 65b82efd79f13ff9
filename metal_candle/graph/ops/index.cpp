// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reading and writing by index.
#include "metal_candle/graph/ops/index.h"

#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/creation.h"
#include "metal_candle/graph/ops/elementwise.h"
#include "metal_candle/graph/ops/layout.h"

namespace metal_candle {
namespace {

using detail::make_node;

int axis_of(const char* op, const Tensor& x, int axis) {
  return normalize_axis(op, axis, detail::require(op, x).rank());
}

Tensor cast_like(const char* op, const Tensor& update, const Tensor& x) {
  return detail::cast_to(detail::require(op, update), x.dtype());
}

Axes axes_of(const char* op, const Tensor& x, const Axes& axes) {
  Axes result = axes;
  for (std::int64_t& axis : result) axis = normalize_axis(op, axis, x.rank());
  return result;
}

// Block starts as a vector.
Tensor starts_of(const char* op, const Tensor& starts) {
  const Tensor indices = detail::to_indices(op, starts);
  return indices.rank() == 0 ? reshape(indices, {1}) : indices;
}

}  // namespace

Tensor take(const Tensor& x, const Tensor& indices, int axis) {
  const int normal = axis_of("take", x, axis);
  const Tensor where_to_look = detail::to_indices("take", indices);
  return make_node(op::Take{normal}, {&x, &where_to_look});
}

Tensor take(const Tensor& x, const Tensor& indices) { return take(flatten(x), indices, 0); }

Tensor take_along_axis(const Tensor& x, const Tensor& indices, int axis) {
  const int normal = axis_of("take_along_axis", x, axis);
  const Tensor where_to_look = detail::to_indices("take_along_axis", indices);
  return make_node(op::TakeAlongAxis{normal}, {&x, &where_to_look});
}

Tensor scatter_add(const Tensor& x, const Tensor& indices, const Tensor& updates, int axis) {
  const int normal = axis_of("scatter_add", x, axis);
  const Tensor targets = detail::to_indices("scatter_add", indices);
  const Tensor values = cast_like("scatter_add", updates, x);
  return make_node(op::ScatterAdd{normal}, {&x, &targets, &values});
}

Tensor scatter_add_along_axis(const Tensor& x, const Tensor& indices, const Tensor& updates,
                              int axis) {
  const int normal = axis_of("scatter_add_along_axis", x, axis);
  const Tensor targets = detail::to_indices("scatter_add_along_axis", indices);
  const Tensor values = cast_like("scatter_add_along_axis", updates, x);
  return make_node(op::ScatterAddAlongAxis{normal}, {&x, &targets, &values});
}

Tensor slice_update(const Tensor& x, const Tensor& update, const Dims& starts, const Dims& steps) {
  const Shape& shape = detail::require("slice_update", x).shape();
  op::SliceUpdate operation{starts, steps.empty() ? Dims(starts.size(), 1) : steps};
  for (int i = 0; i < std::min(starts.rank(), shape.rank()); ++i) {
    if (starts[i] < 0) operation.start[i] += shape[i];
  }
  const Tensor values = cast_like("slice_update", update, x);
  return make_node(operation, {&x, &values});
}

Tensor dynamic_slice(const Tensor& x, const Tensor& starts, const Axes& axes,
                     const Shape& lengths) {
  const Axes normal = axes_of("dynamic_slice", detail::require("dynamic_slice", x), axes);
  const Tensor begin = starts_of("dynamic_slice", starts);
  return make_node(op::DynamicSlice{normal}, {&x, &begin}, {lengths, x.dtype()});
}

Tensor dynamic_slice_update(const Tensor& x, const Tensor& update, const Tensor& starts,
                            const Axes& axes) {
  const char* op = "dynamic_slice_update";
  const Axes normal = axes_of(op, detail::require(op, x), axes);
  const Tensor values = cast_like(op, update, x);
  const Tensor begin = starts_of(op, starts);
  return make_node(op::DynamicSliceUpdate{normal}, {&x, &values, &begin});
}

Tensor one_hot(const Tensor& indices, std::int64_t classes, DType dtype) {
  const Tensor integers = detail::to_indices("one_hot", indices);
  const Tensor numbers =
      arange(std::int64_t{0}, classes, std::int64_t{1}, integers.dtype(), integers.device());
  return astype(expand_dims(integers, -1) == numbers, dtype);
}

}  // namespace metal_candle
