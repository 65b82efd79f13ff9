// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Gradients of elementwise operations. give() sums over broadcast axes.
#include <cmath>
#include <numbers>

#include "metal_candle/autograd/gradient_rules.h"
#include "metal_candle/autograd/rule_helpers.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/graph/ops/build.h"

namespace metal_candle::detail {
namespace {

using std::numbers::ln10;
using std::numbers::ln2;
using std::numbers::pi;

/// The derivative of exact GELU: Phi(x) + x phi(x).
Tensor gelu_derivative(const Tensor& x) {
  const Tensor cdf = (erf(x * std::numbers::sqrt2 * 0.5) + 1.0) * 0.5;
  const Tensor density = exp(square(x) * -0.5) * (1 / std::sqrt(2 * pi));
  return cdf + x * density;
}

Tensor gelu_tanh_derivative(const Tensor& x) {
  const double k = std::sqrt(2 / pi);
  const Tensor x2 = square(x);
  const Tensor t = tanh(x * (x2 * (k * 0.044715) + k));
  const Tensor inner_derivative = x2 * (k * 3 * 0.044715) + k;
  return (t + 1.0) * 0.5 + x * 0.5 * (1.0 - square(t)) * inner_derivative;
}

Tensor silu_derivative(const Tensor& x) {
  const Tensor s = sigmoid(x);
  return s * (x * (1.0 - s) + 1.0);
}

/// dy times the derivative of kind at x, where it is y.
Tensor unary_gradient(UnaryKind kind, const Tensor& x, const Tensor& y, const Tensor& dy) {
  switch (kind) {
    case UnaryKind::kAbs:
      return dy * sign(x);
    case UnaryKind::kNegative:
      return -dy;
    case UnaryKind::kSquare:
      return dy * x * 2.0;
    case UnaryKind::kExp:
      return dy * y;
    case UnaryKind::kExpm1:
      return dy * exp(x);  // Not y + 1, which is 0 in f32 for x < -17.
    case UnaryKind::kLog:
      return dy / x;
    case UnaryKind::kLog1p:
      return dy / (x + 1.0);
    case UnaryKind::kLog2:
      return dy / (x * ln2);
    case UnaryKind::kLog10:
      return dy / (x * ln10);
    case UnaryKind::kSqrt:
      return dy * 0.5 / y;
    case UnaryKind::kRsqrt:
      return dy * -0.5 * y / x;
    case UnaryKind::kReciprocal:
      return -(dy * square(y));
    case UnaryKind::kSin:
      return dy * cos(x);
    case UnaryKind::kCos:
      return -(dy * sin(x));
    case UnaryKind::kTan:
      return dy * (square(y) + 1.0);
    case UnaryKind::kAsin:
      return dy * rsqrt((1.0 - x) * (x + 1.0));
    case UnaryKind::kAcos:
      return -(dy * rsqrt((1.0 - x) * (x + 1.0)));
    case UnaryKind::kAtan:
      return dy / (square(x) + 1.0);
    case UnaryKind::kSinh:
      return dy * cosh(x);
    case UnaryKind::kCosh:
      return dy * sinh(x);
    case UnaryKind::kTanh:
      return dy * (1.0 - square(y));
    case UnaryKind::kAsinh:
      return dy * rsqrt(square(x) + 1.0);
    case UnaryKind::kAcosh:
      return dy * rsqrt((x - 1.0) * (x + 1.0));
    case UnaryKind::kAtanh:
      return dy / ((1.0 - x) * (x + 1.0));
    case UnaryKind::kErf:
      return dy * exp(-square(x)) * (2 / std::sqrt(pi));
    case UnaryKind::kErfInv:
      return dy * exp(square(y)) * (std::sqrt(pi) / 2);
    case UnaryKind::kSigmoid:
      return dy * y * (1.0 - y);
    case UnaryKind::kRelu:
    case UnaryKind::kGelu:
    case UnaryKind::kGeluTanh:
    case UnaryKind::kSilu:
      return activation_gradient(kind, x, dy);
    // Zero almost everywhere, or not floating.
    case UnaryKind::kSign:
    case UnaryKind::kFloor:
    case UnaryKind::kCeil:
    case UnaryKind::kRound:
    case UnaryKind::kTrunc:
    case UnaryKind::kIsNan:
    case UnaryKind::kIsInf:
    case UnaryKind::kIsFinite:
    case UnaryKind::kLogicalNot:
    case UnaryKind::kBitwiseNot:
      break;
  }
  return {};
}

void power_rule(VjpContext& c, const Tensor& a, const Tensor& b, const Tensor& dy) {
  // 0^0 has slope 0 in a and 0^b slope 0 in b, where the formulas say 0 * infinity.
  if (c.needs(0)) {
    const Tensor slope = where(b == 0.0, 0.0, b * power(a, b - 1.0));
    c.give(0, dy * slope);
  }
  if (c.needs(1)) {
    const Tensor zero = logical_and(a == 0.0, b >= 0.0);
    c.give(1, dy * where(zero, 0.0, c.y() * log(where(zero, 1.0, a))));
  }
}

/// dy to the operand that is chosen, half of it to each where they are equal.
void extremum_rule(VjpContext& c, const Tensor& a_is_chosen, const Tensor& dy) {
  const Tensor tie = c.x(0) == c.x(1);
  const Tensor half = dy * 0.5;
  if (c.needs(0)) c.give(0, where(tie, half, where(a_is_chosen, dy, 0.0)));
  if (c.needs(1)) c.give(1, where(tie, half, where(a_is_chosen, 0.0, dy)));
}

}  // namespace

Tensor activation_gradient(UnaryKind kind, const Tensor& x, const Tensor& dy) {
  if (kind == UnaryKind::kRelu) return where(x > 0.0, dy, 0.0);
  // In f32, as the activations themselves are.
  const Tensor wide = astype(x, DType::kF32);
  const Tensor derivative = kind == UnaryKind::kGelu       ? gelu_derivative(wide)
                            : kind == UnaryKind::kGeluTanh ? gelu_tanh_derivative(wide)
                                                           : silu_derivative(wide);
  return astype(astype(dy, DType::kF32) * derivative, dy.dtype());
}

void vjp_rule(const op::Full&, VjpContext&) {}
void vjp_rule(const op::Arange&, VjpContext&) {}
void vjp_rule(const op::RandomBits&, VjpContext&) {}

void vjp_rule(const op::Unary& operation, VjpContext& c) {
  if (!c.needs()) return;
  const Tensor gradient = unary_gradient(operation.kind, c.x(), c.y(), c.dy());
  if (!gradient.empty()) c.give(0, gradient);
}

void vjp_rule(const op::Binary& operation, VjpContext& c) {
  const Tensor &a = c.x(0), &b = c.x(1), &dy = c.dy();
  switch (operation.kind) {
    case BinaryKind::kAdd:
      if (c.needs(0)) c.give(0, dy);
      if (c.needs(1)) c.give(1, dy);
      return;
    case BinaryKind::kSubtract:
      if (c.needs(0)) c.give(0, dy);
      if (c.needs(1)) c.give(1, -dy);
      return;
    case BinaryKind::kMultiply:
      if (c.needs(0)) c.give(0, dy * b);
      if (c.needs(1)) c.give(1, dy * a);
      return;
    case BinaryKind::kDivide:
      if (c.needs(0)) c.give(0, dy / b);
      if (c.needs(1)) c.give(1, -(dy * c.y() / b));
      return;
    case BinaryKind::kRemainder:
      if (c.needs(0)) c.give(0, dy);
      if (c.needs(1)) c.give(1, -(dy * floor_divide(a, b)));
      return;
    case BinaryKind::kPower:
      return power_rule(c, a, b, dy);
    case BinaryKind::kMaximum:
      return extremum_rule(c, a > b, dy);
    case BinaryKind::kMinimum:
      return extremum_rule(c, a < b, dy);
    case BinaryKind::kAtan2: {
      const Tensor scaled = dy / (square(a) + square(b));
      if (c.needs(0)) c.give(0, scaled * b);
      if (c.needs(1)) c.give(1, -(scaled * a));
      return;
    }
    case BinaryKind::kLogAddExp:
      if (c.needs(0)) c.give(0, dy * sigmoid(a - b));
      if (c.needs(1)) c.give(1, dy * sigmoid(b - a));
      return;
    case BinaryKind::kHypot: {
      const Tensor y = c.y();
      const Tensor scaled = where(y == 0.0, 0.0, dy / y);
      if (c.needs(0)) c.give(0, scaled * a);
      if (c.needs(1)) c.give(1, scaled * b);
      return;
    }
    case BinaryKind::kCopysign:
      if (c.needs(0)) c.give(0, dy * sign(a) * copysign(1.0, b));
      return;
    // Zero almost everywhere, or not floating.
    case BinaryKind::kFloorDivide:
    case BinaryKind::kBitwiseAnd:
    case BinaryKind::kBitwiseOr:
    case BinaryKind::kBitwiseXor:
    case BinaryKind::kShiftLeft:
    case BinaryKind::kShiftRight:
    case BinaryKind::kEqual:
    case BinaryKind::kNotEqual:
    case BinaryKind::kLess:
    case BinaryKind::kLessEqual:
    case BinaryKind::kGreater:
    case BinaryKind::kGreaterEqual:
    case BinaryKind::kLogicalAnd:
    case BinaryKind::kLogicalOr:
    case BinaryKind::kLogicalXor:
      return;
  }
}

void vjp_rule(const op::Select&, VjpContext& c) {
  if (c.needs(1)) c.give(1, where(c.x(0), c.dy(), 0.0));
  if (c.needs(2)) c.give(2, where(c.x(0), 0.0, c.dy()));
}

void vjp_rule(const op::Cast&, VjpContext& c) {
  if (c.needs()) c.give(0, astype(c.dy(), c.x().dtype()));
}

void vjp_rule(const op::SwiGlu&, VjpContext& c) {
  const Tensor &gate = c.x(0), &up = c.x(1);
  if (c.needs(0) && c.needs(1) && gate.shape() == up.shape()) {
    const std::vector<Tensor> gradients = make_outputs(op::SwiGluBackward{}, {&gate, &up, &c.dy()});
    c.give(0, gradients[0]);
    c.give(1, gradients[1]);
    return;
  }
  const Tensor dy = astype(c.dy(), DType::kF32);
  const Tensor wide = astype(gate, DType::kF32);
  if (c.needs(0)) c.give(0, astype(dy * up * silu_derivative(wide), gate.dtype()));
  if (c.needs(1)) c.give(1, astype(dy * silu(wide), up.dtype()));
}

void vjp_rule(const op::SwiGluBackward& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

void vjp_rule(const op::Elementwise& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

void vjp_rule(const op::ElementwiseReduce& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

}  // namespace metal_candle::detail
