// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Shape rules of softmax, norms, rotary embeddings, attention and cross entropies.
#include "metal_candle/graph/shape_rules/rules.h"

namespace metal_candle::shape_rules {
namespace {

const TensorSpec& same_spec_floating(const Context& c, int axis) {
  c.require_count(1);
  c.require_floating(0);
  static_cast<void>(c.axis(axis));
  return c[0];
}

// (x [..., d], and after it vectors [d] up to input `end`), all of one floating dtype.
const TensorSpec& norm(const Context& c, std::size_t end) {
  c.require_floating(0);
  c.require_one_dtype();
  c.require_rank_at_least(0, 1);
  for (std::size_t i = 1; i < end; ++i) c.require_shape(i, {c.shape(0).back()});
  return c[0];
}

// (x, weight?, dy).
const TensorSpec& norm_backward(const Context& c) {
  c.require_count(2, 3);
  const TensorSpec& x = norm(c, c.count() - 1);
  c.require_shape(c.count() - 1, x.shape);
  return x;
}

// Checks q, k and v, which is the last of the inputs of their dtype, and, from input `next` on, the
// optional ones.
void require_attention(const op::Attention& o, const Context& c, std::size_t next,
                       std::size_t k_at = 1, std::size_t v_at = 2) {
  c.require_floating(0);
  c.require_one_dtype(v_at + 1);
  const Shape &q = c.shape(0), &k = c.shape(k_at), &v = c.shape(v_at);
  if (q.rank() != 4 || k.rank() != 4 || v.rank() != 4)
    c.shape_error("q, k and v have 4 dimensions");
  if (k[0] != q[0] || v[0] != q[0]) c.shape_error("q, k and v differ in batch size");
  if (v[1] != k[1] || v[2] != k[2]) c.shape_error("k and v differ in heads or length");
  if (q[3] != k[3]) c.shape_error("q and k differ in width");
  if (k[1] == 0 ? q[1] != 0 : q[1] % k[1] != 0) {
    c.shape_error("the heads of q are no multiple of those of k");
  }
  if (o.window < 0) c.shape_error("a window may not be negative");
  if (o.window > 0 && !o.causal) c.shape_error("a window needs causal attention");
  if (o.has_mask) {
    const Shape& mask = c.shape(next);
    const Shape scores{q[0], q[1], q[2], k[2]};
    if (is_integer(c.dtype(next))) c.dtype_error("a mask is bool or floating");
    if (mask.rank() > 4) c.shape_error("the mask does not broadcast to [b, h, lq, lk]");
    for (int i = 1; i <= mask.rank(); ++i) {
      const std::int64_t length = mask[mask.rank() - i];
      if (length != 1 && length != scores[4 - i]) {
        c.shape_error("the mask does not broadcast to [b, h, lq, lk]");
      }
    }
    ++next;
  }
  if (o.has_key_length) {
    c.require_dtype(next, DType::kI32);
    if (!c.shape(next).empty()) c.require_shape(next, {q[0]});
  }
}

std::size_t optional_inputs(const op::Attention& o) {
  return (o.has_mask ? 1u : 0u) + (o.has_key_length ? 1u : 0u);
}

// That so much of input 0 can be rotated.
void require_rotated(const op::Rope& o, const Context& c) {
  if (o.dims <= 0 || o.dims % 2 != 0 || o.dims > c.shape(0).back()) {
    c.shape_error("the number of rotated dimensions must be even, positive and at most the last");
  }
}

// (logits [..., n], targets [...]): the shape of the loss.
Shape entropy_rows(const Context& c) {
  c.require_floating(0);
  c.require_rank_at_least(0, 1);
  if (c.shape(0).back() == 0) c.shape_error("there are no classes");
  const Shape rows = leading(c.shape(0));
  c.require_indices(1);
  c.require_shape(1, rows);
  return rows;
}

// (x [..., m, k], weight [k, n], targets [..., m]): the shape of the loss.
Shape linear_entropy_rows(const Context& c) {
  c.require_floating(0);
  c.require_one_dtype(2);
  c.require_rank_at_least(0, 2);
  if (c.shape(1).rank() != 2) c.shape_error("weights have two dimensions");
  if (c.shape(0).back() != c.shape(1)[0]) c.shape_error("inner dimensions differ");
  if (c.shape(1)[1] == 0) c.shape_error("there are no classes");
  const Shape rows = leading(c.shape(0));
  c.require_indices(2);
  c.require_shape(2, rows);
  return rows;
}

// logsumexp and dloss, inputs i and i + 1.
void require_row_gradients(const Context& c, std::size_t i, const Shape& rows) {
  for (const std::size_t input : {i, i + 1}) {
    c.require_dtype(input, DType::kF32);
    c.require_shape(input, rows);
  }
}

}  // namespace

TensorSpec infer(const op::Softmax& o, const Context& c) { return same_spec_floating(c, o.axis); }
TensorSpec infer(const op::LogSoftmax& o, const Context& c) {
  return same_spec_floating(c, o.axis);
}

TensorSpec infer(const op::LogSumExp& o, const Context& c) {
  TensorSpec result = same_spec_floating(c, o.axis);
  if (result.shape[o.axis] == 0) c.shape_error("an axis of length 0 has no extreme");
  if (o.keepdims)
    result.shape[o.axis] = 1;
  else
    result.shape.erase(o.axis);
  return result;
}

TensorSpec infer(const op::TopPThreshold&, const Context& c) {
  const int last = c.shape(0).rank() - 1;
  TensorSpec result = same_spec_floating(c, last);
  if (result.shape[last] == 0) c.shape_error("an axis of length 0 has no least element");
  result.shape[last] = 1;
  return result;
}

TensorSpec infer(const op::Draw&, const Context& c) {
  c.require_count(2);
  c.require_floating(0);
  c.require_dtype(1, DType::kF32);
  c.require_rank_at_least(0, 1);
  TensorSpec result{c.shape(0), DType::kI32};
  if (result.shape.back() == 0) c.shape_error("an axis of length 0 has nothing to draw");
  result.shape.back() = 1;
  c.require_shape(1, result.shape);
  return result;
}

TensorSpec infer(const op::SoftmaxBackward& o, const Context& c) {
  c.require_count(2);
  c.require_floating(0);
  c.require_one_dtype();
  static_cast<void>(c.axis(o.axis));
  c.require_shape(1, c.shape(0));
  return c[0];
}

TensorSpec infer(const op::RmsNorm&, const Context& c) {
  c.require_count(1, 2);
  return norm(c, c.count());
}
TensorSpec infer(const op::RmsNormBackward& o, const Context& c) {
  if (!o.has_residual) return norm_backward(c);
  c.require_count(4);
  const TensorSpec& x = norm(c, 2);
  c.require_shape(2, x.shape);
  c.require_shape(3, x.shape);
  return x;
}
TensorSpec infer(const op::LayerNorm&, const Context& c) {
  c.require_count(1, 3);
  return norm(c, c.count());
}
TensorSpec infer(const op::LayerNormBackward&, const Context& c) { return norm_backward(c); }

TensorSpec infer(const op::SwiGlu&, const Context& c) {
  c.require_count(2);
  c.require_floating(0);
  c.require_one_dtype();
  return {broadcast(c, c.shape(0), c.shape(1)), c.dtype(0)};
}

TensorSpec infer(const op::Rope& o, const Context& c) {
  c.require_count(3);
  c.require_floating(0);
  c.require_rank_at_least(0, 2);
  const Shape& shape = c.shape(0);
  require_rotated(o, c);
  c.require_dtype(1, DType::kI32);
  if (!c.shape(1).empty()) {
    if (shape.rank() < 3) c.shape_error("offsets need x [batch, ..., length, d]");
    c.require_shape(1, {shape[0]});
  }
  c.require_dtype(2, DType::kF32);
  c.require_shape(2, {o.dims / 2});
  return c[0];
}

TensorSpec infer(const op::Attention& o, const Context& c) {
  c.require_count(3 + optional_inputs(o));
  require_attention(o, c, 3);
  const Shape& q = c.shape(0);
  return {{q[0], q[1], q[2], c.shape(2)[3]}, c.dtype(0)};
}

TensorSpec infer(const op::AttentionBackward& o, const Context& c) {
  c.require_count(6 + optional_inputs(o.forward));
  require_attention(o.forward, c, 6);
  const Shape& q = c.shape(0);
  const Shape output{q[0], q[1], q[2], c.shape(2)[3]};
  for (const std::size_t i : {std::size_t{3}, std::size_t{5}}) {
    c.require_dtype(i, c.dtype(0));
    c.require_shape(i, output);
  }
  c.require_dtype(4, DType::kF32);
  c.require_shape(4, leading(q));
  return c[0];
}

TensorSpec infer(const op::CachedAttention& o, const Context& c) {
  c.require_count(8);
  if (o.attention.has_mask || !o.attention.has_key_length) {
    c.shape_error("attention over a cache has a key length and no mask");
  }
  require_attention(o.attention, c, 7, 3, 4);
  const Shape &q = c.shape(0), &keys = c.shape(3), &values = c.shape(4);
  c.require_shape(1, {q[0], keys[1], q[2], q[3]});
  c.require_shape(2, {q[0], keys[1], q[2], values[3]});
  if (q[2] > keys[2]) c.shape_error("the keys do not fit the cache");
  require_rotated(o.rope, c);
  c.require_dtype(5, DType::kI32);
  c.require_shape(5, {});
  c.require_dtype(6, DType::kF32);
  c.require_shape(6, {o.rope.dims / 2});
  return {{q[0], q[1], q[2], values[3]}, c.dtype(0)};
}

TensorSpec infer(const op::CrossEntropy&, const Context& c) {
  c.require_count(2);
  return {entropy_rows(c), DType::kF32};
}

TensorSpec infer(const op::CrossEntropyBackward&, const Context& c) {
  c.require_count(4);
  require_row_gradients(c, 2, entropy_rows(c));
  return c[0];
}

TensorSpec infer(const op::LinearCrossEntropy&, const Context& c) {
  c.require_count(3);
  return {linear_entropy_rows(c), DType::kF32};
}

TensorSpec infer(const op::LinearCrossEntropyBackward&, const Context& c) {
  c.require_count(5);
  require_row_gradients(c, 3, linear_entropy_rows(c));
  return c[0];
}

}  // namespace metal_candle::shape_rules
