// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Shape rules of what rearranges elements or passes them on.
#include "metal_candle/graph/shape_rules/rules.h"

namespace metal_candle::shape_rules {

TensorSpec infer(const op::Reshape&, const Context& c) {
  c.require_count(1);
  const Shape& shape = c.requested_shape();
  if (num_elements(shape) != num_elements(c.shape(0))) [[unlikely]]
    c.requested_error("the number of elements would change");
  return {shape, c.dtype(0)};
}

TensorSpec infer(const op::Transpose& o, const Context& c) {
  c.require_count(1);
  const Shape& shape = c.shape(0);
  const int rank = shape.rank();
  if (o.permutation.rank() != rank) c.shape_error("takes each axis once");
  TensorSpec result{shape, c.dtype(0)};
  unsigned seen = 0;
  for (int i = 0; i < rank; ++i) {
    const int from = c.axis(static_cast<int>(o.permutation[i]));
    seen |= 1u << from;
    result.shape[i] = shape[from];
  }
  if (seen != (1u << rank) - 1u) [[unlikely]]
    c.shape_error("takes each axis once");
  return result;
}

TensorSpec infer(const op::Slice& o, const Context& c) {
  c.require_count(1);
  const Shape& shape = c.shape(0);
  const Shape& result = c.requested_shape();
  if (result.rank() != shape.rank() || o.start.rank() != shape.rank() ||
      o.step.rank() != shape.rank()) {
    c.requested_error("takes one range an axis");
  }
  for (int i = 0; i < shape.rank(); ++i) {
    if (o.step[i] == 0) c.requested_error("a step may not be 0");
    if (result[i] == 0) continue;
    const std::int64_t last = o.start[i] + (result[i] - 1) * o.step[i];
    if (o.start[i] < 0 || o.start[i] >= shape[i] || last < 0 || last >= shape[i]) [[unlikely]]
      c.requested_error("a range reaches outside the operand");
  }
  return {result, c.dtype(0)};
}

TensorSpec infer(const op::Broadcast&, const Context& c) {
  c.require_count(1);
  const Shape& shape = c.shape(0);
  const Shape& result = c.requested_shape();
  const int offset = result.rank() - shape.rank();
  if (offset < 0) c.requested_error("does not broadcast");
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] != 1 && shape[i] != result[offset + i]) [[unlikely]]
      c.requested_error("does not broadcast");
  }
  return {result, c.dtype(0)};
}

TensorSpec infer(const op::Concatenate& o, const Context& c) {
  if (c.count() == 0) c.shape_error("takes at least one operand");
  c.require_one_dtype();
  TensorSpec result = c[0];
  const int axis = c.axis(o.axis);
  for (std::size_t i = 1; i < c.count(); ++i) {
    const Shape& shape = c.shape(i);
    bool fits = shape.rank() == result.shape.rank();
    for (int j = 0; fits && j < shape.rank(); ++j) fits = j == axis || shape[j] == result.shape[j];
    if (!fits) [[unlikely]]
      c.shape_error("shapes may differ along the axis only");
    result.shape[axis] += shape[axis];
  }
  return result;
}

TensorSpec infer(const op::Pad& o, const Context& c) {
  c.require_count(1);
  const Shape& shape = c.shape(0);
  const Shape& result = c.requested_shape();
  if (result.rank() != shape.rank() || o.low.rank() != shape.rank()) {
    c.requested_error("takes one width an axis");
  }
  for (int i = 0; i < shape.rank(); ++i) {
    if (o.low[i] < 0 || result[i] - shape[i] < o.low[i]) [[unlikely]]
      c.requested_error("widths may not be negative");
  }
  return {result, c.dtype(0)};
}

TensorSpec infer(const op::Barrier&, const Context& c) {
  if (c.count() == 0) c.shape_error("takes at least one operand");
  return c[0];
}

TensorSpec infer(const op::StopGradient&, const Context& c) {
  c.require_count(1);
  return c[0];
}

TensorSpec infer(const op::Identity&, const Context& c) {
  c.require_count(1);
  return c[0];
}

// The rule sees the operand's first output only, so it trusts whoever asks.
TensorSpec infer(const op::Pick&, const Context& c) {
  c.require_count(1);
  return c.requested();
}

TensorSpec infer(const op::CustomGradient& o, const Context& c) {
  if (o.num_outputs < 1 || c.count() < static_cast<std::size_t>(o.num_outputs)) {
    c.shape_error("takes at least as many operands as it has outputs");
  }
  return c[0];
}

}  // namespace metal_candle::shape_rules
