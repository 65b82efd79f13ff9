// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Gradients of rearrangements, and of the operations that only steer differentiation.
#include <algorithm>

#include "metal_candle/autograd/custom.h"
#include "metal_candle/autograd/gradient_rules.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle::detail {
namespace {

bool all_ones(const Dims& steps) {
  return std::all_of(steps.begin(), steps.end(), [](std::int64_t step) { return step == 1; });
}

/// The block of x that begins at start and has the given shape.
Tensor block(const Tensor& x, const Dims& start, const Shape& shape) {
  return make_node(op::Slice{start, Dims(start.size(), 1)}, {&x}, {shape, x.dtype()});
}

}  // namespace

void vjp_rule(const op::Reshape&, VjpContext& c) {
  if (c.needs()) c.give(0, reshape(c.dy(), c.x().shape()));
}

void vjp_rule(const op::Transpose& operation, VjpContext& c) {
  if (!c.needs()) return;
  Axes inverse(operation.permutation.size(), 0);
  for (int i = 0; i < inverse.rank(); ++i) {
    inverse[static_cast<int>(operation.permutation[i])] = i;
  }
  c.give(0, transpose(c.dy(), inverse));
}

void vjp_rule(const op::Slice& operation, VjpContext& c) {
  if (!c.needs()) return;
  const Tensor &x = c.x(), &dy = c.dy();
  if (all_ones(operation.step)) {
    // Padding fuses with what comes after it; an update of zeros does not.
    c.give(0, make_node(op::Pad{operation.start, Scalar::from_real(0)}, {&dy}, x.spec()));
  } else {
    const Tensor zero = zeros_like(x);
    c.give(0, make_node(op::SliceUpdate{operation.start, operation.step}, {&zero, &dy}));
  }
}

void vjp_rule(const op::Broadcast&, VjpContext& c) {
  if (c.needs()) c.give(0, c.dy());
}

void vjp_rule(const op::Concatenate& operation, VjpContext& c) {
  Dims start(c.dy().shape().size(), 0);
  for (std::size_t i = 0; i < c.num_inputs(); ++i) {
    if (c.needs(i)) c.give(i, block(c.dy(), start, c.x(i).shape()));
    start[operation.axis] += c.x(i).shape()[operation.axis];
  }
}

void vjp_rule(const op::Pad& operation, VjpContext& c) {
  if (c.needs()) c.give(0, block(c.dy(), operation.low, c.x().shape()));
}

void vjp_rule(const op::Barrier&, VjpContext& c) {
  if (c.needs()) c.give(0, c.dy());
}

void vjp_rule(const op::StopGradient&, VjpContext&) {}

void vjp_rule(const op::Identity&, VjpContext& c) {
  if (c.needs()) c.give(0, c.dy());
}

// The sweep hands the cotangent of a pick to the operation it picks from.
void vjp_rule(const op::Pick&, VjpContext&) {}

void vjp_rule(const op::CustomGradient& operation, VjpContext& c) {
  const auto count = static_cast<std::size_t>(operation.num_outputs);
  const auto first = static_cast<std::ptrdiff_t>(count);
  const std::vector<Tensor> arguments(c.inputs().begin() + first, c.inputs().end());
  const std::vector<bool> wanted(c.needs_all().begin() + first, c.needs_all().end());
  std::vector<Tensor> outputs;
  for (int k = 0; k < operation.num_outputs; ++k) outputs.push_back(c.y(k));
  const std::vector<Tensor> gradients =
      operation.rule->gradients(arguments, wanted, outputs, c.cotangents());
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (wanted[i] && !gradients[i].empty()) c.give(count + i, gradients[i]);
  }
}

}  // namespace metal_candle::detail
