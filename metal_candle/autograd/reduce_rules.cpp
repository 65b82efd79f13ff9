// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Gradients of reductions, scans, sorting and the softmax family.
#include <algorithm>

#include "metal_candle/autograd/gradient_rules.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle::detail {
namespace {

/// A reduced tensor with its reduced axes back, of length 1.
Tensor with_axes(const Tensor& reduced, const Shape& whole, const Axes& axes) {
  Shape shape = whole;
  for (const std::int64_t axis : axes) shape[static_cast<int>(axis)] = 1;
  return reshape(reduced, shape);
}

/// The product of all elements before each one along the last axis: 1, x0, x0 x1, ...
Tensor exclusive_cumprod(const Tensor& x, bool reverse) {
  const int axis = x.rank() - 1;
  const std::int64_t length = x.shape().back();
  Dims low(x.shape().size(), 0), high(low), starts(low);
  Dims stops = x.shape();
  (reverse ? high : low)[axis] = 1;
  starts[axis] = reverse ? 1 : 0;
  stops[axis] = length + (reverse ? 1 : 0);
  return slice(cumprod(pad(x, low, high, 1.0), axis, reverse), starts, stops);
}

/// Division by x would fail where an element is zero, so the product of the others is found by
/// multiplying what is before with what is after.
Tensor prod_gradient(const Tensor& x, const Tensor& dy, const Axes& axes) {
  Axes permutation, inverse(x.shape().size(), 0);
  Shape kept;
  std::int64_t reduced = 1;
  for (int axis = 0; axis < x.rank(); ++axis) {
    if (std::find(axes.begin(), axes.end(), axis) != axes.end()) continue;
    permutation.push_back(axis);
    kept.push_back(x.shape()[axis]);
  }
  for (const std::int64_t axis : axes) {
    permutation.push_back(axis);
    reduced *= x.shape()[static_cast<int>(axis)];
  }
  for (int i = 0; i < permutation.rank(); ++i) inverse[static_cast<int>(permutation[i])] = i;
  const Tensor permuted = transpose(x, permutation);
  Shape flat = kept;
  flat.push_back(reduced);
  const Tensor rows = reshape(permuted, flat);
  Shape column = kept;
  column.push_back(1);
  const Tensor others = exclusive_cumprod(rows, false) * exclusive_cumprod(rows, true);
  const Tensor gradient = others * reshape(dy, column);
  return transpose(reshape(gradient, permuted.shape()), inverse);
}

/// dx_j = sum over i >= j of dy_i y_i / x_j, but for zeros: the first zero along the axis gets what
/// it would if it were 1, and nothing after it matters. (A second derivative that crosses a zero
/// is not given.)
Tensor cumprod_gradient(const Tensor& x, const Tensor& y, const Tensor& dy, int axis,
                        bool reverse) {
  const Tensor zero = x == 0.0;
  const Tensor zeros_seen = cumsum(astype(zero, DType::kI32), axis, reverse);
  const Tensor first_zero = logical_and(zero, zeros_seen == 1);
  const Tensor smooth = cumsum(dy * y, axis, !reverse) / where(zero, 1.0, x);
  const Tensor replaced = cumprod(where(first_zero, 1.0, x), axis, reverse);
  const Tensor at_zero = cumsum(dy * replaced, axis, !reverse);
  return where(zeros_seen == 0, smooth, where(first_zero, at_zero, 0.0));
}

/// All of dy_i goes to the element that is the running extremum at i: the last one of equals.
Tensor cumulative_extremum_gradient(const Tensor& x, const Tensor& y, const Tensor& dy, int axis,
                                    bool reverse) {
  Shape along(x.shape().size(), 1);
  const std::int64_t length = x.shape()[axis];
  along[axis] = length;
  const Tensor position = broadcast_to(
      reshape(arange(std::int64_t{0}, length, std::int64_t{1}, DType::kI32, x.device()), along),
      x.shape());
  const Tensor is_new = x == y;
  const Tensor source = reverse ? cummin(where(is_new, position, length - 1), axis, true)
                                : cummax(where(is_new, position, 0), axis, false);
  return scatter_add_along_axis(zeros_like(x), source, dy, axis);
}

}  // namespace

void vjp_rule(const op::Reduce& operation, VjpContext& c) {
  if (!c.needs()) return;
  const Tensor& x = c.x();
  const Tensor dy = with_axes(c.dy(), x.shape(), operation.axes);
  switch (operation.kind) {
    case ReduceKind::kSum:
      return c.give(0, broadcast_to(dy, x.shape()));
    case ReduceKind::kProd:
      return c.give(0, prod_gradient(x, dy, operation.axes));
    case ReduceKind::kMax:
    case ReduceKind::kMin: {
      const Tensor chosen = x == with_axes(c.y(), x.shape(), operation.axes);
      const Tensor count = sum(astype(chosen, x.dtype()), operation.axes, /*keepdims=*/true);
      return c.give(0, where(chosen, dy / count, 0.0));
    }
    case ReduceKind::kAny:
    case ReduceKind::kAll:
      return;
  }
}

void vjp_rule(const op::ArgReduce&, VjpContext&) {}

void vjp_rule(const op::Cumulative& operation, VjpContext& c) {
  if (!c.needs()) return;
  const auto [kind, axis, reverse] = operation;
  switch (kind) {
    case ReduceKind::kSum:
      return c.give(0, cumsum(c.dy(), axis, !reverse));
    case ReduceKind::kProd:
      return c.give(0, cumprod_gradient(c.x(), c.y(), c.dy(), axis, reverse));
    case ReduceKind::kMax:
    case ReduceKind::kMin:
      return c.give(0, cumulative_extremum_gradient(c.x(), c.y(), c.dy(), axis, reverse));
    case ReduceKind::kAny:
    case ReduceKind::kAll:
      return;
  }
}

void vjp_rule(const op::Sort& operation, VjpContext& c) {
  if (!c.needs()) return;
  const Tensor order = argsort(c.x(), operation.axis, operation.descending);
  c.give(0, scatter_add_along_axis(zeros_like(c.x()), order, c.dy(), operation.axis));
}

void vjp_rule(const op::ArgSort&, VjpContext&) {}
void vjp_rule(const op::ArgTopK&, VjpContext&) {}

void vjp_rule(const op::Softmax& operation, VjpContext& c) {
  if (!c.needs()) return;
  const Tensor y = c.y();
  c.give(0, make_node(op::SoftmaxBackward{operation.axis}, {&y, &c.dy()}));
}

void vjp_rule(const op::LogSoftmax& operation, VjpContext& c) {
  if (!c.needs()) return;
  const Tensor y = astype(c.y(), DType::kF32);
  const Tensor dy = astype(c.dy(), DType::kF32);
  const Tensor dx = dy - exp(y) * sum(dy, operation.axis, /*keepdims=*/true);
  c.give(0, astype(dx, c.x().dtype()));
}

void vjp_rule(const op::LogSumExp& operation, VjpContext& c) {
  if (!c.needs()) return;
  const Shape& whole = c.x().shape();
  const Axes axes{operation.axis};
  const Tensor x = astype(c.x(), DType::kF32);
  const Tensor y = astype(with_axes(c.y(), whole, axes), DType::kF32);
  const Tensor dy = astype(with_axes(c.dy(), whole, axes), DType::kF32);
  c.give(0, astype(dy * exp(x - y), c.x().dtype()));
}

// Which element it is does not change with small changes of x; it changes with that element.
void vjp_rule(const op::TopPThreshold& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

void vjp_rule(const op::Draw&, VjpContext&) {}

void vjp_rule(const op::SoftmaxBackward& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

}  // namespace metal_candle::detail
