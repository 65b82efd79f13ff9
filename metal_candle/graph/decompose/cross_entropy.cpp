// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Cross entropies and their gradients in primitives.
#include <limits>

#include "metal_candle/graph/decompose/builder.h"

namespace metal_candle::decompositions {
namespace {

// Which targets count, and targets with which those that do not can be looked up too.
struct Targets {
  Targets(Builder& b, NodeId targets, std::int64_t ignore_index) {
    const bool narrow = b.dtype(targets) == DType::kI32 &&
                        ignore_index >= std::numeric_limits<std::int32_t>::min() &&
                        ignore_index <= std::numeric_limits<std::int32_t>::max();
    dtype = narrow ? DType::kI32 : DType::kI64;
    const NodeId index = b.cast(targets, dtype);
    counted = b.binary(BinaryKind::kNotEqual, index, b.integer(ignore_index, dtype));
    safe = b.where(counted, index, b.integer(0, dtype));
  }
  DType dtype;
  NodeId counted, safe;
};

// x [..., k] as [rows, k].
NodeId as_matrix(Builder& b, NodeId x) {
  const Shape shape = b.shape(x);
  std::int64_t rows = 1;
  for (int i = 0; i + 1 < shape.rank(); ++i) rows *= shape[i];
  return b.reshape(x, {rows, shape.back()});
}

}  // namespace

Outputs expand(const op::CrossEntropy& o, Builder& b) {
  const NodeId logits = b.input(0);
  const int axis = b.shape(logits).rank() - 1;
  const Targets targets(b, b.input(1), o.ignore_index);
  const NodeId logsumexp = b.add(op::LogSumExp{axis, false}, {b.wide(logits)});
  const NodeId picked = b.add(op::TakeAlongAxis{axis}, {logits, b.column(targets.safe)});
  const NodeId loss = b.minus(logsumexp, b.reshape(b.wide(picked), b.shape(logsumexp)));
  return {b.where(targets.counted, loss, b.real(0)), logsumexp};
}

Outputs expand(const op::CrossEntropyBackward& o, Builder& b) {
  const NodeId logits = b.input(0);
  const std::int64_t classes = b.shape(logits).back();
  const Targets targets(b, b.input(1), o.ignore_index);
  // Negative targets count from the end.
  const NodeId from_end = b.plus(targets.safe, b.integer(classes, targets.dtype));
  const NodeId negative = b.binary(BinaryKind::kLess, targets.safe, b.integer(0, targets.dtype));
  const NodeId target = b.column(b.where(negative, from_end, targets.safe));
  const NodeId hit = b.binary(BinaryKind::kEqual, b.iota(classes, targets.dtype), target);
  const NodeId p = b.exp(b.minus(b.wide(logits), b.column(b.input(2))));
  const NodeId dlogits = b.times(b.minus(p, b.wide(hit)), b.column(b.input(3)));
  const NodeId result = b.where(b.column(targets.counted), dlogits, b.real(0));
  return {b.cast(result, b.dtype(logits))};
}

Outputs expand(const op::LinearCrossEntropy& o, Builder& b) {
  const NodeId wide_weight = b.wide(b.input(1));
  const NodeId logits = b.matmul(b.wide(b.input(0)), wide_weight);
  const NodeId both = b.add(op::CrossEntropy{o.ignore_index}, {logits, b.input(2)});
  const TensorSpec rows = b.spec(both);
  const NodeId logsumexp = b.add(op::Pick{1}, {both}, rows);
  const NodeId ones = b.add(op::Broadcast{}, {b.real(1)}, {rows.shape, DType::kF32});
  const NodeId dlogits =
      b.add(op::CrossEntropyBackward{o.ignore_index}, {logits, b.input(2), logsumexp, ones});
  const NodeId gradient = b.matmul(dlogits, b.transpose(wide_weight));
  return {b.add(op::Pick{0}, {both}, rows), logsumexp, b.cast(gradient, b.dtype(b.input(0)))};
}

Outputs expand(const op::LinearCrossEntropyBackward& o, Builder& b) {
  const NodeId x = b.input(0), weight = b.input(1);
  const NodeId wide_x = b.wide(x), wide_weight = b.wide(weight);
  const NodeId logits = b.matmul(wide_x, wide_weight);
  const NodeId dlogits =
      b.add(op::CrossEntropyBackward{o.ignore_index}, {logits, b.input(2), b.input(3), b.input(4)});
  const NodeId dx = b.matmul(dlogits, b.transpose(wide_weight));
  const NodeId dweight = b.matmul(b.transpose(as_matrix(b, wide_x)), as_matrix(b, dlogits));
  return {b.cast(dx, b.dtype(x)), b.cast(dweight, b.dtype(weight))};
}

}  // namespace metal_candle::decompositions
