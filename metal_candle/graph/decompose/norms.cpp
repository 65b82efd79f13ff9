// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Softmax and norms in primitives, with their gradients.
#include "metal_candle/graph/decompose/builder.h"

namespace metal_candle::decompositions {
namespace {

// x - max(x). The plain textbook form: rows of -infinity give NaN, as in NumPy.
NodeId shifted(Builder& b, NodeId x, int axis) {
  return b.minus(x, b.reduce(ReduceKind::kMax, x, axis));
}

// 1 / sqrt(mean(x^2) + eps) over the last axis.
NodeId inverse_rms(Builder& b, NodeId x, float eps) {
  const NodeId mean = b.mean_last(b.unary(UnaryKind::kSquare, x));
  return b.unary(UnaryKind::kRsqrt, b.plus(mean, b.real(static_cast<double>(eps))));
}

// (x, weight?, dy, ..) of a norm's gradient, in f32.
struct NormGradient {
  explicit NormGradient(Builder& b)
      : has_weight(b.count() >= 3),
        x(b.wide(b.input(0))),
        dy(b.wide(b.input(has_weight ? 2 : 1))),
        g(dy) {
    if (has_weight) g = b.times(dy, b.wide(b.input(1)));
  }
  // dx, and dweight when there is a weight; each row of dweight is dy * normal.
  [[nodiscard]] Outputs outputs(Builder& b, NodeId dx, NodeId normal) const {
    Outputs result = {b.cast(dx, b.dtype(b.input(0)))};
    if (has_weight) {
      result.push_back(b.cast(b.sum_rows(b.times(dy, normal)), b.dtype(b.input(1))));
    }
    return result;
  }
  bool has_weight;
  NodeId x, dy;
  NodeId g;  // dy * weight.
};

}  // namespace

Outputs expand(const op::Softmax& o, Builder& b) {
  const NodeId x = b.input(0);
  if (b.shape(x)[o.axis] == 0) return {x};
  const NodeId e = b.exp(shifted(b, b.wide(x), o.axis));
  return {b.cast(b.over(e, b.sum(e, o.axis)), b.dtype(x))};
}

Outputs expand(const op::LogSoftmax& o, Builder& b) {
  const NodeId x = b.input(0);
  if (b.shape(x)[o.axis] == 0) return {x};
  const NodeId z = shifted(b, b.wide(x), o.axis);
  const NodeId log = b.unary(UnaryKind::kLog, b.sum(b.exp(z), o.axis));
  return {b.cast(b.minus(z, log), b.dtype(x))};
}

Outputs expand(const op::LogSumExp& o, Builder& b) {
  const NodeId x = b.wide(b.input(0));
  const NodeId largest = b.finite_max(x, o.axis);
  const NodeId total = b.sum(b.exp(b.minus(x, largest)), o.axis);
  const NodeId kept = b.plus(largest, b.unary(UnaryKind::kLog, total));
  Shape shape = b.shape(kept);
  if (!o.keepdims) shape.erase(o.axis);
  return {b.cast(b.reshape(kept, shape), b.dtype(b.input(0)))};
}

Outputs expand(const op::SoftmaxBackward& o, Builder& b) {
  const NodeId y = b.wide(b.input(0));
  const NodeId dy = b.wide(b.input(1));
  const NodeId dot = b.sum(b.times(y, dy), o.axis);
  return {b.cast(b.times(y, b.minus(dy, dot)), b.dtype(b.input(0)))};
}

Outputs expand(const op::RmsNorm& o, Builder& b) {
  const NodeId x = b.wide(b.input(0));
  NodeId y = b.times(x, inverse_rms(b, x, o.eps));
  if (b.count() > 1) y = b.times(y, b.wide(b.input(1)));
  return {b.cast(y, b.dtype(b.input(0)))};
}

Outputs expand(const op::RmsNormBackward& o, Builder& b) {
  const NormGradient in(b);
  const NodeId r = inverse_rms(b, in.x, o.eps);
  const NodeId normal = b.times(in.x, r);
  // dx = r * (g - normal * mean(g * normal)).
  const NodeId along = b.times(normal, b.mean_last(b.times(in.g, normal)));
  NodeId dx = b.times(r, b.minus(in.g, along));
  if (o.has_residual) dx = b.plus(dx, b.wide(b.input(3)));
  return in.outputs(b, dx, normal);
}

Outputs expand(const op::LayerNorm& o, Builder& b) {
  const NodeId x = b.wide(b.input(0));
  const NodeId centred = b.minus(x, b.mean_last(x));
  NodeId y = b.times(centred, inverse_rms(b, centred, o.eps));
  if (b.count() > 1) y = b.times(y, b.wide(b.input(1)));
  if (b.count() > 2) y = b.plus(y, b.wide(b.input(2)));
  return {b.cast(y, b.dtype(b.input(0)))};
}

Outputs expand(const op::LayerNormBackward& o, Builder& b) {
  const NormGradient in(b);
  const NodeId centred = b.minus(in.x, b.mean_last(in.x));
  const NodeId r = inverse_rms(b, centred, o.eps);
  const NodeId normal = b.times(centred, r);
  // dx = r * (g - mean(g) - normal * mean(g * normal)).
  const NodeId along = b.times(normal, b.mean_last(b.times(in.g, normal)));
  const NodeId dx = b.times(r, b.minus(b.minus(in.g, b.mean_last(in.g)), along));
  return in.outputs(b, dx, normal);
}

}  // namespace metal_candle::decompositions
