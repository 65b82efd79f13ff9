// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What tokens are sampled with, in primitives.
#include <limits>

#include "metal_candle/graph/decompose/builder.h"

namespace metal_candle::decompositions {
namespace {

// sums, target [rows, 1] -> i32 [rows, 1]: the first position whose sum exceeds the target, else 0.
NodeId first_beyond(Builder& b, NodeId sums, NodeId target) {
  const NodeId beyond = b.cast(b.binary(BinaryKind::kGreater, sums, target), DType::kI32);
  return b.column(b.add(op::ArgReduce{/*is_max=*/true, 1}, {beyond}));
}

NodeId running_sum(Builder& b, NodeId x) {
  return b.add(op::Cumulative{ReduceKind::kSum, 1, /*reverse=*/false}, {x});
}

}  // namespace

Outputs expand(const op::TopPThreshold& o, Builder& b) {
  const NodeId x = b.wide(b.input(0));
  const int last = b.shape(x).rank() - 1;
  const NodeId sorted = b.add(op::Sort{last, /*descending=*/true}, {x});
  const NodeId p = b.add(op::Softmax{last}, {sorted});
  const NodeId before = b.minus(b.add(op::Cumulative{ReduceKind::kSum, last, false}, {p}), p);
  const NodeId kept = b.binary(BinaryKind::kLess, before, b.real(static_cast<double>(o.p)));
  const NodeId candidates = b.where(kept, sorted, b.real(std::numeric_limits<double>::infinity()));
  return {b.cast(b.reduce(ReduceKind::kMin, candidates, last), b.dtype(b.input(0)))};
}

// Running sums are sequential, and so are long ones slow: sums of blocks say in which one to look.
Outputs expand(const op::Draw&, Builder& b) {
  constexpr std::int64_t kBlock = 256;
  const Shape shape = b.shape(b.input(1));
  const std::int64_t rows = num_elements(shape), n = b.shape(b.input(0)).back();
  const std::int64_t count = (n + kBlock - 1) / kBlock;
  const NodeId x = b.reshape(b.wide(b.input(0)), {rows, n});
  const NodeId weights = b.exp(b.minus(x, b.reduce(ReduceKind::kMax, x, 1)));
  const NodeId padded = b.add(op::Pad{{0, 0}, Scalar::from_real(0)}, {weights},
                              {Shape{rows, count * kBlock}, DType::kF32});
  const NodeId blocks = b.reshape(padded, {rows, count, kBlock});
  const NodeId sums = running_sum(b, b.reduce(ReduceKind::kSum, blocks, 2, /*keepdims=*/false));
  const NodeId total = b.slice_last(sums, count - 1, 1);
  const NodeId target = b.times(b.reshape(b.input(1), {rows, 1}), total);

  const NodeId zero = b.integer(0, DType::kI32);
  const NodeId block = first_beyond(b, sums, target);
  const NodeId previous =
      b.binary(BinaryKind::kMaximum, b.minus(block, b.integer(1, DType::kI32)), zero);
  const NodeId before = b.where(b.binary(BinaryKind::kGreater, block, zero),
                                b.add(op::TakeAlongAxis{1}, {sums, previous}), b.real(0));
  const NodeId places = b.add(op::Broadcast{}, {b.reshape(block, {rows, 1, 1})},
                              {Shape{rows, 1, kBlock}, DType::kI32});
  const NodeId within =
      running_sum(b, b.reshape(b.add(op::TakeAlongAxis{1}, {blocks, places}), {rows, kBlock}));
  // The two kinds of sums round differently; what is left must not lie beyond the block.
  const NodeId most = b.times(b.slice_last(within, kBlock - 1, 1), b.real(1 - 0x1p-23));
  const NodeId rest = b.binary(BinaryKind::kMinimum, b.minus(target, before), most);
  const NodeId index =
      b.plus(b.times(block, b.integer(kBlock, DType::kI32)), first_beyond(b, within, rest));
  const NodeId drawn =
      b.where(b.unary(UnaryKind::kIsNan, total), b.integer(-1, DType::kI32), index);
  return {b.reshape(drawn, shape)};
}

}  // namespace metal_candle::decompositions
