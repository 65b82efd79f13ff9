// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Gradients of reading and writing by index: each is the other's.
#include "metal_candle/autograd/gradient_rules.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle::detail {

void vjp_rule(const op::Take& operation, VjpContext& c) {
  if (c.needs()) c.give(0, scatter_add(zeros_like(c.x()), c.x(1), c.dy(), operation.axis));
}

void vjp_rule(const op::TakeAlongAxis& operation, VjpContext& c) {
  if (!c.needs()) return;
  c.give(0, scatter_add_along_axis(zeros_like(c.x()), c.x(1), c.dy(), operation.axis));
}

void vjp_rule(const op::ScatterAdd& operation, VjpContext& c) {
  if (c.needs(0)) c.give(0, c.dy());
  if (c.needs(2)) c.give(2, take(c.dy(), c.x(1), operation.axis));
}

void vjp_rule(const op::ScatterAddAlongAxis& operation, VjpContext& c) {
  if (c.needs(0)) c.give(0, c.dy());
  if (c.needs(2)) c.give(2, take_along_axis(c.dy(), c.x(1), operation.axis));
}

void vjp_rule(const op::SliceUpdate& operation, VjpContext& c) {
  const Tensor &dy = c.dy(), &update = c.x(1);
  if (c.needs(0)) {
    const Tensor zero = zeros_like(update);
    c.give(0, make_node(operation, {&dy, &zero}));
  }
  if (c.needs(1)) {
    c.give(1, make_node(op::Slice{operation.start, operation.step}, {&dy}, update.spec()));
  }
}

void vjp_rule(const op::DynamicSlice& operation, VjpContext& c) {
  if (!c.needs()) return;
  c.give(0, dynamic_slice_update(zeros_like(c.x()), c.dy(), c.x(1), operation.axes));
}

void vjp_rule(const op::DynamicSliceUpdate& operation, VjpContext& c) {
  const Tensor &update = c.x(1), &starts = c.x(2);
  if (c.needs(0)) {
    c.give(0, dynamic_slice_update(c.dy(), zeros_like(update), starts, operation.axes));
  }
  if (c.needs(1)) c.give(1, dynamic_slice(c.dy(), starts, operation.axes, update.shape()));
}

}  // namespace metal_candle::detail
