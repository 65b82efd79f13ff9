// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Shape rules of matrix products and of what is fused around them.
#include "metal_candle/graph/shape_rules/rules.h"

namespace metal_candle::shape_rules {
namespace {

// a [..., m, k] @ b [..., k, n] of inputs i and j.
Shape product(const Context& c, std::size_t i, std::size_t j) {
  const Shape& a = c.shape(i);
  const Shape& b = c.shape(j);
  c.require_rank_at_least(i, 2);
  c.require_rank_at_least(j, 2);
  if (a.back() != b[b.rank() - 2]) [[unlikely]]
    c.shape_error("inner dimensions differ");
  Shape result = a;
  if (b.rank() > 2) {
    result = broadcast(c, leading(a, 2), leading(b, 2));
    result.push_back(a[a.rank() - 2]);
    result.push_back(b.back());
  } else {
    result.back() = b.back();
  }
  return result;
}

// A matrix is never batched where x may be.
void require_matrix(const Context& c, std::size_t i) {
  if (c.shape(i).rank() != 2) [[unlikely]]
    c.shape_error("weights have two dimensions");
}

// a [k, r] and b [r, n], inputs i and i + 1, fit x [..., k] and an output of width n.
void require_low_rank(const Context& c, std::size_t i, std::int64_t n) {
  require_matrix(c, i);
  require_matrix(c, i + 1);
  if (c.shape(i)[0] != c.shape(0).back() || c.shape(i)[1] != c.shape(i + 1)[0] ||
      c.shape(i + 1)[1] != n) [[unlikely]] {
    c.shape_error("the ranks or widths of x, a and b differ");
  }
}

}  // namespace

TensorSpec infer(const op::Matmul&, const Context& c) {
  c.require_count(2);
  c.require_numeric(0);
  c.require_one_dtype();
  return {product(c, 0, 1), c.dtype(0)};
}

TensorSpec infer(const op::Lora&, const Context& c) {
  c.require_count(3);
  c.require_floating(0);
  c.require_one_dtype();
  c.require_rank_at_least(0, 2);
  c.require_rank_at_least(2, 2);
  TensorSpec result = c[0];
  result.shape.back() = c.shape(2).back();
  require_low_rank(c, 1, result.shape.back());
  return result;
}

TensorSpec infer(const op::LoraLinear& o, const Context& c) {
  c.require_count(o.has_bias ? 5 : 4);
  c.require_floating(0);
  c.require_one_dtype();
  require_matrix(c, 1);
  TensorSpec result{product(c, 0, 1), c.dtype(0)};
  require_low_rank(c, 2, result.shape.back());
  if (o.has_bias) c.require_shape(4, {result.shape.back()});
  return result;
}

TensorSpec infer(const op::Linear& o, const Context& c) {
  c.require_count(2u + (o.has_bias ? 1u : 0u) + (o.has_residual ? 1u : 0u));
  c.require_floating(0);
  c.require_one_dtype();
  TensorSpec result{product(c, 0, 1), c.dtype(0)};
  if (o.has_bias) c.require_shape(2, {result.shape.back()});
  if (o.has_residual) c.require_shape(c.count() - 1, result.shape);
  return result;
}

TensorSpec infer(const op::ProductSum& o, const Context& c) {
  if (o.count < 2) [[unlikely]]
    c.shape_error("takes two products or more");
  const auto operands = 2 * static_cast<std::size_t>(o.count);
  c.require_count(operands + (o.has_residual ? 1u : 0u));
  c.require_floating(0);
  c.require_one_dtype();
  require_matrix(c, 1);
  TensorSpec result{product(c, 0, 1), c.dtype(0)};
  for (std::size_t i = 2; i < operands; i += 2) {
    require_matrix(c, i + 1);
    if (product(c, i, i + 1) != result.shape) [[unlikely]]
      c.shape_error("takes products of one shape");
  }
  if (o.has_residual) c.require_shape(operands, result.shape);
  return result;
}

TensorSpec infer(const op::SwiGluBackward& o, const Context& c) {
  c.require_count(o.of_product ? 4 : 3);
  c.require_floating(0);
  c.require_one_dtype();
  c.require_shape(1, c.shape(0));
  if (o.of_product) {
    require_matrix(c, 3);
    if (product(c, 2, 3) != c.shape(0)) [[unlikely]]
      c.shape_error("takes a product of the shape of gate and up");
    return c[0];
  }
  c.require_shape(2, c.shape(0));
  return c[0];
}

TensorSpec infer(const op::NormLinear& o, const Context& c) {
  const op::Linear& linear = o.linear;
  const std::size_t extra = (linear.has_bias ? 1u : 0u) + (linear.has_residual ? 1u : 0u);
  c.require_count(o.gated ? 4u : 3u + extra);
  c.require_floating(0);
  c.require_one_dtype();
  c.require_shape(1, {c.shape(0).back()});
  require_matrix(c, 2);
  TensorSpec result{product(c, 0, 2), c.dtype(0)};
  if (o.gated) {
    if (!(linear == op::Linear{op::Activation::kNone, false, false, 1})) [[unlikely]]
      c.shape_error("a gated product is a plain one");
    c.require_shape(3, c.shape(2));
    return result;
  }
  if (linear.has_bias) c.require_shape(3, {result.shape.back()});
  if (linear.has_residual) c.require_shape(c.count() - 1, result.shape);
  return result;
}

}  // namespace metal_candle::shape_rules
