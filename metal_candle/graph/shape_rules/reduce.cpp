// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Shape rules of reductions, scans and sorting.
#include "metal_candle/graph/shape_rules/rules.h"

namespace metal_candle::shape_rules {
namespace {

bool is_logical(ReduceKind kind) { return kind == ReduceKind::kAny || kind == ReduceKind::kAll; }

void require_length(const Context& c, const Shape& shape, int axis) {
  if (shape[axis] == 0) [[unlikely]]
    c.shape_error("an axis of length 0 has no extreme");
}

TensorSpec reduced(const op::Reduce& o, const TensorSpec& x, const Context& c) {
  if (!is_logical(o.kind) && x.dtype == DType::kBool) [[unlikely]]
    c.dtype_error("takes numeric dtypes, not bool");
  const Shape& shape = x.shape;
  TensorSpec result{Shape{}, is_logical(o.kind) ? DType::kBool : x.dtype};
  int next = 0;  // The first axis not yet copied.
  for (const std::int64_t reduced : o.axes) {
    if (reduced < next || reduced >= shape.rank()) [[unlikely]]
      c.axis_error(static_cast<int>(reduced));
    const auto axis = static_cast<int>(reduced);
    for (; next < axis; ++next) result.shape.push_back(shape[next]);
    if (o.kind == ReduceKind::kMax || o.kind == ReduceKind::kMin) require_length(c, shape, axis);
    if (o.keepdims) result.shape.push_back(1);
    ++next;
  }
  for (; next < shape.rank(); ++next) result.shape.push_back(shape[next]);
  return result;
}

const TensorSpec& same_spec_numeric(const Context& c, int axis) {
  c.require_count(1);
  c.require_numeric(0);
  static_cast<void>(c.axis(axis));
  return c[0];
}

}  // namespace

TensorSpec infer(const op::Reduce& o, const Context& c) {
  c.require_count(1);
  return reduced(o, c[0], c);
}

TensorSpec infer(const op::ElementwiseReduce& o, const Context& c) {
  return reduced(o.reduce, infer(o.elementwise, c), c);
}

TensorSpec infer(const op::ArgReduce& o, const Context& c) {
  TensorSpec result = same_spec_numeric(c, o.axis);
  require_length(c, result.shape, o.axis);
  result.shape.erase(o.axis);
  result.dtype = DType::kI32;
  return result;
}

TensorSpec infer(const op::Cumulative& o, const Context& c) {
  if (is_logical(o.kind)) c.dtype_error("runs over sums, products, maxima and minima only");
  return same_spec_numeric(c, o.axis);
}

TensorSpec infer(const op::Sort& o, const Context& c) { return same_spec_numeric(c, o.axis); }

TensorSpec infer(const op::ArgSort& o, const Context& c) {
  return {same_spec_numeric(c, o.axis).shape, DType::kI32};
}

TensorSpec infer(const op::ArgTopK& o, const Context& c) {
  const Shape& shape = same_spec_numeric(c, o.axis).shape;
  const Shape& requested = c.requested_shape();
  bool fits = requested.rank() == shape.rank();
  for (int i = 0; fits && i < shape.rank(); ++i) {
    fits = i == o.axis ? requested[i] <= shape[i] : requested[i] == shape[i];
  }
  if (!fits) c.requested_error("takes no more than an axis has");
  return {requested, DType::kI32};
}

}  // namespace metal_candle::shape_rules
