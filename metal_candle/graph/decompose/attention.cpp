// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Scaled-dot-product attention and its gradient in primitives. Query heads that share a key head
// lie next to each other, so a group is merged with the queries: [b, hkv, h / hkv * lq, d]. Then
// every product is a plain batched one, and the gradients of k and v sum over the group by
// themselves.
#include <limits>

#include "metal_candle/graph/decompose/builder.h"

namespace metal_candle::decompositions {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The dimensions and the operands in f32 of a call. `next` is the first optional input.
class Call {
 public:
  Call(const op::Attention& operation, Builder& builder, std::size_t next)
      : o_(operation),
        b_(builder),
        next_(next),
        query_shape_(builder.shape(builder.input(0))),
        key_shape_(builder.shape(builder.input(1))) {}

  [[nodiscard]] std::int64_t queries() const { return query_shape_[2]; }
  [[nodiscard]] std::int64_t keys() const { return key_shape_[2]; }
  [[nodiscard]] bool is_empty() const { return key_shape_[1] == 0; }

  // [b, h, lq, n] -> [b, hkv, h / hkv * lq, n], in f32.
  NodeId grouped(NodeId x) {
    const Shape shape = b_.shape(x);
    const std::int64_t rows = shape[1] / key_shape_[1] * shape[2];
    return b_.reshape(b_.wide(x), {shape[0], key_shape_[1], rows, shape[3]});
  }
  // And back.
  NodeId ungrouped(NodeId x) {
    return b_.reshape(x, {query_shape_[0], query_shape_[1], query_shape_[2], b_.shape(x).back()});
  }

  // [b, h, lq, lk], -infinity where the query does not see the key.
  NodeId scores() {
    const NodeId product = b_.matmul(grouped(b_.input(0)), b_.transpose(b_.wide(b_.input(1))));
    NodeId scores = b_.times(ungrouped(product), b_.real(static_cast<double>(o_.scale)));
    std::size_t next = next_;
    if (o_.has_mask) {
      const NodeId mask = b_.input(next++);
      if (b_.dtype(mask) == DType::kBool)
        see(mask);
      else
        scores = b_.plus(scores, b_.wide(mask));
    }
    see_keys(o_.has_key_length ? key_length(b_.input(next)) : kNoNode);
    return visible_ == kNoNode ? scores : b_.where(visible_, scores, b_.real(-kInfinity));
  }

 private:
  // Narrows what is visible.
  void see(NodeId condition) {
    visible_ =
        visible_ == kNoNode ? condition : b_.binary(BinaryKind::kLogicalAnd, visible_, condition);
  }

  NodeId key_length(NodeId length) {
    const Shape shape = b_.shape(length);
    return shape.empty() ? length : b_.reshape(length, {shape[0], 1, 1, 1});
  }

  // length: how many keys there are, or kNoNode for all of them.
  void see_keys(NodeId length) {
    const bool has_length = length != kNoNode;
    if (!has_length && !o_.causal) return;
    const NodeId key = b_.iota(keys(), DType::kI32);
    if (has_length) see(b_.binary(BinaryKind::kLess, key, length));
    if (!o_.causal) return;
    const NodeId all = has_length ? length : b_.integer(keys(), DType::kI32);
    const NodeId first = b_.minus(all, b_.integer(queries(), DType::kI32));
    const NodeId position = b_.plus(first, b_.column(b_.iota(queries(), DType::kI32)));
    see(b_.binary(BinaryKind::kLessEqual, key, position));
    if (o_.window == 0) return;
    const NodeId before = b_.minus(position, b_.integer(o_.window, DType::kI32));
    see(b_.binary(BinaryKind::kGreater, key, before));
  }

  const op::Attention& o_;
  Builder& b_;
  std::size_t next_;
  Shape query_shape_, key_shape_;
  NodeId visible_ = kNoNode;
};

}  // namespace

Outputs expand(const op::Attention& o, Builder& b) {
  Call call(o, b, 3);
  const TensorSpec query = b.spec(b.input(0));
  Shape rows = query.shape;
  rows.erase(3);
  if (call.is_empty() || call.keys() == 0) {
    Shape shape = query.shape;
    shape.back() = b.shape(b.input(2)).back();
    return {b.real(shape, 0, query.dtype), b.real(rows, -kInfinity)};
  }
  const NodeId scores = call.scores();
  const NodeId largest = b.finite_max(scores, 3);
  const NodeId e = b.exp(b.minus(scores, largest));
  const NodeId total = b.sum(e, 3);
  const NodeId logsumexp = b.plus(largest, b.unary(UnaryKind::kLog, total));
  // A query that sees nothing has 0 / 1.
  const NodeId nothing = b.binary(BinaryKind::kEqual, total, b.real(0));
  const NodeId p = b.over(e, b.where(nothing, b.real(1), total));
  const NodeId output = call.ungrouped(b.matmul(call.grouped(p), b.wide(b.input(2))));
  return {b.cast(output, query.dtype), b.reshape(logsumexp, rows)};
}

// Into the operations that it was made of, for which a backend may have kernels.
Outputs expand(const op::CachedAttention& o, Builder& b) {
  const NodeId offset = b.input(5), frequencies = b.input(6);
  const NodeId q = b.add(o.rope, {b.input(0), offset, frequencies});
  const NodeId k = b.add(o.rope, {b.input(1), offset, frequencies});
  const NodeId start = b.reshape(offset, {1});
  const NodeId keys = b.add(op::DynamicSliceUpdate{{2}}, {b.input(3), k, start});
  const NodeId values = b.add(op::DynamicSliceUpdate{{2}}, {b.input(4), b.input(2), start});
  const NodeId attended = b.add(o.attention, {q, keys, values, b.input(7)});
  return {b.add(op::Pick{0}, {attended}, b.spec(attended)), keys, values};
}

Outputs expand(const op::AttentionBackward& o, Builder& b) {
  Call call(o.forward, b, 6);
  const NodeId q = b.input(0), k = b.input(1), v = b.input(2);
  if (call.is_empty()) {
    return {b.real(b.shape(q), 0, b.dtype(q)), b.real(b.shape(k), 0, b.dtype(k)),
            b.real(b.shape(v), 0, b.dtype(v))};
  }
  const NodeId output = b.wide(b.input(3));
  const NodeId logsumexp = b.input(4);
  const NodeId doutput = b.wide(b.input(5));
  // Where it is -infinity every score is, and exp() of those is to be 0.
  const NodeId shift = b.where(b.unary(UnaryKind::kIsFinite, logsumexp), logsumexp, b.real(0));
  const NodeId p = b.exp(b.minus(call.scores(), b.column(shift)));
  const NodeId dp = call.ungrouped(b.matmul(call.grouped(doutput), b.transpose(b.wide(v))));
  const NodeId delta = b.sum(b.times(doutput, output), 3);
  const NodeId scale = b.real(static_cast<double>(o.forward.scale));
  const NodeId ds = call.grouped(b.times(b.times(p, b.minus(dp, delta)), scale));
  const NodeId dq = call.ungrouped(b.matmul(ds, b.wide(k)));
  const NodeId dk = b.matmul(b.transpose(ds), call.grouped(q));
  const NodeId dv = b.matmul(b.transpose(call.grouped(p)), call.grouped(doutput));
  return {b.cast(dq, b.dtype(q)), b.cast(dk, b.dtype(k)), b.cast(dv, b.dtype(v))};
}

}  // namespace metal_candle::decompositions
