// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Shape rules of reading and writing by index.
#include "metal_candle/graph/shape_rules/rules.h"

namespace metal_candle::shape_rules {
namespace {

// The shape that Take reads.
Shape taken_shape(const Context& c, int axis) {
  const Shape& shape = c.shape(0);
  const Shape& indices = c.shape(1);
  c.require_indices(1);
  static_cast<void>(c.axis(axis));
  if (shape.rank() + indices.rank() - 1 > kMaxRank) [[unlikely]]
    c.shape_error("the result would have more than 8 dimensions");
  Shape result;
  for (int i = 0; i < axis; ++i) result.push_back(shape[i]);
  for (const std::int64_t length : indices) result.push_back(length);
  for (int i = axis + 1; i < shape.rank(); ++i) result.push_back(shape[i]);
  return result;
}

void require_along_axis(const Context& c, int axis) {
  const Shape& shape = c.shape(0);
  const Shape& indices = c.shape(1);
  c.require_indices(1);
  static_cast<void>(c.axis(axis));
  bool fits = shape.rank() == indices.rank();
  for (int i = 0; fits && i < shape.rank(); ++i) fits = i == axis || shape[i] == indices[i];
  if (!fits) [[unlikely]]
    c.shape_error("x and indices may differ along the axis only");
}

// Checks the updates of a scatter, input 2.
TensorSpec scattered(const Context& c, const Shape& updates) {
  c.require_numeric(0);
  c.require_dtype(2, c.dtype(0));
  c.require_shape(2, updates);
  return c[0];
}

void require_dynamic(const Context& c, const Axes& axes, std::size_t starts) {
  c.require_indices(starts);
  c.require_shape(starts, {axes.rank()});
  unsigned seen = 0;
  for (const std::int64_t axis : axes) {
    const unsigned bit = 1u << c.axis(static_cast<int>(axis));
    if ((seen & bit) != 0) c.shape_error("takes each axis once");
    seen |= bit;
  }
}

bool fits_within(const Shape& block, const Shape& shape) {
  if (block.rank() != shape.rank()) return false;
  for (int i = 0; i < shape.rank(); ++i) {
    if (block[i] > shape[i]) return false;
  }
  return true;
}

}  // namespace

TensorSpec infer(const op::Take& o, const Context& c) {
  c.require_count(2);
  return {taken_shape(c, o.axis), c.dtype(0)};
}

TensorSpec infer(const op::TakeAlongAxis& o, const Context& c) {
  c.require_count(2);
  require_along_axis(c, o.axis);
  return {c.shape(1), c.dtype(0)};
}

TensorSpec infer(const op::ScatterAdd& o, const Context& c) {
  c.require_count(3);
  return scattered(c, taken_shape(c, o.axis));
}

TensorSpec infer(const op::ScatterAddAlongAxis& o, const Context& c) {
  c.require_count(3);
  require_along_axis(c, o.axis);
  return scattered(c, c.shape(1));
}

TensorSpec infer(const op::SliceUpdate& o, const Context& c) {
  c.require_count(2);
  c.require_one_dtype();
  const Shape& shape = c.shape(0);
  const Shape& block = c.shape(1);
  if (block.rank() != shape.rank() || o.start.rank() != shape.rank() ||
      o.step.rank() != shape.rank()) {
    c.shape_error("takes one range an axis");
  }
  for (int i = 0; i < shape.rank(); ++i) {
    if (o.step[i] == 0) c.shape_error("a step may not be 0");
    if (block[i] == 0) continue;
    const std::int64_t last = o.start[i] + (block[i] - 1) * o.step[i];
    if (o.start[i] < 0 || o.start[i] >= shape[i] || last < 0 || last >= shape[i]) [[unlikely]]
      c.shape_error("the update reaches outside the operand");
  }
  return c[0];
}

TensorSpec infer(const op::DynamicSlice& o, const Context& c) {
  c.require_count(2);
  require_dynamic(c, o.axes, 1);
  if (!fits_within(c.requested_shape(), c.shape(0))) [[unlikely]]
    c.requested_error("the block does not fit");
  return {c.requested().shape, c.dtype(0)};
}

TensorSpec infer(const op::DynamicSliceUpdate& o, const Context& c) {
  c.require_count(3);
  c.require_one_dtype(2);
  require_dynamic(c, o.axes, 2);
  if (!fits_within(c.shape(1), c.shape(0))) [[unlikely]]
    c.shape_error("the update does not fit");
  return c[0];
}

}  // namespace metal_candle::shape_rules
