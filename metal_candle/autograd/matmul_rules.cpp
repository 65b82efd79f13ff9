// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Gradients of matrix products and of the linear layers made of them. A low-rank product is kept as
// two thin ones: A @ B is never formed.
#include "metal_candle/autograd/gradient_rules.h"
#include "metal_candle/autograd/rule_helpers.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle::detail {
namespace {

/// x [..., n] as [rows, n].
Tensor as_rows(const Tensor& x) {
  const std::int64_t width = x.shape().back();
  std::int64_t rows = 1;
  for (int axis = 0; axis + 1 < x.rank(); ++axis) rows *= x.shape()[axis];
  return reshape(x, Shape{rows, width});
}

/// A bias's gradient: sums over everything but the last axis, whatever the batch.
Tensor bias_gradient(const Tensor& dy) { return sum(as_rows(dy), 0); }

Tensor scaled(const Tensor& x, float scale) { return scale == 1.0f ? x : x * scale; }

/// Gradients of scale * (x @ a) @ b, for operands with these numbers. `dx` is what x gets from
/// elsewhere, or empty.
void lora_rule(VjpContext& c, float scale, std::size_t a_index, Tensor dx) {
  const std::size_t b_index = a_index + 1;
  const Tensor &x = c.x(0), &a = c.x(a_index), &b = c.x(b_index);
  if (c.needs(0) || c.needs(a_index)) {
    const Tensor inner = scaled(matmul(c.dy(), matrix_transpose(b)), scale);
    if (c.needs(a_index)) c.give(a_index, right_matmul_gradient(x, a, inner));
    if (c.needs(0)) {
      const Tensor through_a = matmul(inner, matrix_transpose(a));
      dx = dx.empty() ? through_a : dx + through_a;
    }
  }
  if (c.needs(0)) c.give(0, dx);
  if (c.needs(b_index)) {
    // Of a LoraLinear, the pass lora_low finds this product in what it keeps.
    c.give(b_index, right_matmul_gradient(scaled(matmul(x, a), scale), b, c.dy()));
  }
}

UnaryKind unary_of(op::Activation activation) {
  switch (activation) {
    case op::Activation::kRelu:
      return UnaryKind::kRelu;
    case op::Activation::kGelu:
      return UnaryKind::kGelu;
    case op::Activation::kGeluTanh:
      return UnaryKind::kGeluTanh;
    default:
      return UnaryKind::kSilu;
  }
}

}  // namespace

Tensor matrix_transpose(const Tensor& x) { return swapaxes(x, -1, -2); }

Tensor right_matmul_gradient(const Tensor& a, const Tensor& b, const Tensor& dy) {
  if (b.rank() == 2) return matmul(matrix_transpose(as_rows(a)), as_rows(dy));
  return matmul(matrix_transpose(a), dy);
}

void vjp_rule(const op::Matmul&, VjpContext& c) {
  const Tensor &a = c.x(0), &b = c.x(1), &dy = c.dy();
  if (c.needs(0)) c.give(0, matmul(dy, matrix_transpose(b)));
  if (!c.needs(1)) return;
  // Rows of a and dy only correspond where a itself has all the batch axes.
  const bool a_is_broadcast = a.rank() < dy.rank();
  c.give(1, a_is_broadcast ? matmul(matrix_transpose(a), dy) : right_matmul_gradient(a, b, dy));
}

void vjp_rule(const op::Lora& operation, VjpContext& c) { lora_rule(c, operation.scale, 1, {}); }

void vjp_rule(const op::LoraLinear& operation, VjpContext& c) {
  if (operation.keeps_low) return vjp_of_decomposition(operation, c);
  const Tensor &x = c.x(0), &weight = c.x(1), &dy = c.dy();
  if (c.needs(1)) c.give(1, right_matmul_gradient(x, weight, dy));
  if (operation.has_bias && c.needs(4)) c.give(4, bias_gradient(dy));
  Tensor through_weight;
  if (c.needs(0)) through_weight = matmul(dy, matrix_transpose(weight));
  lora_rule(c, operation.scale, 2, through_weight);
}

void vjp_rule(const op::Linear& operation, VjpContext& c) {
  const Tensor &x = c.x(0), &weight = c.x(1);
  const std::size_t bias = 2, residual = operation.has_bias ? 3 : 2;
  if (operation.has_residual && c.needs(residual)) c.give(residual, c.dy());
  const bool needs_bias = operation.has_bias && c.needs(bias);
  if (!c.needs(0) && !c.needs(1) && !needs_bias) return;
  Tensor dy = c.dy();
  if (operation.activation == op::Activation::kRelu && !operation.has_residual) {
    dy = activation_gradient(UnaryKind::kRelu, c.y(), dy);
  } else if (operation.activation != op::Activation::kNone) {
    // What went into the activation is not kept, so it is computed again. A layer that is trained
    // is cheaper with its activation as an operation of its own.
    const op::Linear before{op::Activation::kNone, operation.has_bias, false, operation.scale};
    const Tensor z = operation.has_bias ? make_node(before, {&x, &weight, &c.x(bias)})
                                        : make_node(before, {&x, &weight});
    dy = activation_gradient(unary_of(operation.activation), z, dy);
  }
  if (needs_bias) c.give(bias, bias_gradient(dy));
  dy = scaled(dy, operation.scale);
  if (c.needs(0)) c.give(0, matmul(dy, matrix_transpose(weight)));
  if (!c.needs(1)) return;
  const bool x_is_broadcast = x.rank() < dy.rank();
  c.give(1,
         x_is_broadcast ? matmul(matrix_transpose(x), dy) : right_matmul_gradient(x, weight, dy));
}

void vjp_rule(const op::ProductSum& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

void vjp_rule(const op::NormLinear& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

}  // namespace metal_candle::detail
