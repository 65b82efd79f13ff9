// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Elementwise functions: promotion, then one node.
#include "metal_candle/graph/ops/elementwise.h"

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/creation.h"
#include "metal_candle/graph/ops/reduce.h"

namespace metal_candle {
namespace {

using detail::make_node;

Tensor unary(UnaryKind kind, const Tensor& x) { return make_node(op::Unary{kind}, {&x}); }

Tensor floating_unary(UnaryKind kind, const Tensor& x) {
  if (is_floating(detail::require(name(kind), x).dtype())) return unary(kind, x);
  return unary(kind, detail::to_floating(x));
}

Tensor rounding(UnaryKind kind, const Tensor& x) {
  return is_integer(detail::require(name(kind), x).dtype()) ? x : unary(kind, x);
}

// No integer is NaN or infinite.
Tensor classify(UnaryKind kind, const Tensor& x, bool answer_for_integers) {
  if (is_floating(detail::require(name(kind), x).dtype())) return unary(kind, x);
  return full(x.shape(), answer_for_integers, DType::kBool, x.device());
}

Device device_of(const Operand& a, const Operand& b) {
  return (a.tensor() ? a.tensor() : b.tensor())->device();
}

Tensor binary_in(BinaryKind kind, const Operand& a, const Operand& b, DType dtype) {
  if (a.tensor() && b.tensor() && a.tensor()->dtype() == dtype && b.tensor()->dtype() == dtype) {
    return make_node(op::Binary{kind}, {a.tensor(), b.tensor()});
  }
  const Device device = device_of(a, b);
  const Tensor left = detail::materialize(name(kind), a, dtype, device);
  const Tensor right = detail::materialize(name(kind), b, dtype, device);
  return make_node(op::Binary{kind}, {&left, &right});
}

// In whatever dtype the operands meet: comparisons and bits.
Tensor binary(BinaryKind kind, const Operand& a, const Operand& b) {
  return binary_in(kind, a, b, detail::meeting_dtype(name(kind), a, b));
}

Tensor arithmetic(BinaryKind kind, const Operand& a, const Operand& b) {
  const DType dtype = detail::meeting_dtype(name(kind), a, b);
  return binary_in(kind, a, b, dtype == DType::kBool ? DType::kI32 : dtype);
}

Tensor floating(BinaryKind kind, const Operand& a, const Operand& b) {
  const DType dtype = detail::meeting_dtype(name(kind), a, b);
  return binary_in(kind, a, b, is_floating(dtype) ? dtype : DType::kF32);
}

Tensor logical(BinaryKind kind, const Operand& a, const Operand& b) {
  static_cast<void>(detail::meeting_dtype(name(kind), a, b));
  return binary_in(kind, a, b, DType::kBool);
}

}  // namespace

Tensor astype(const Tensor& x, DType dtype) {
  return detail::cast_to(detail::require("cast", x), dtype);
}

Tensor abs(const Tensor& x) { return unary(UnaryKind::kAbs, x); }
Tensor negative(const Tensor& x) { return unary(UnaryKind::kNegative, x); }
Tensor positive(const Tensor& x) {
  if (detail::require("positive", x).dtype() == DType::kBool)
    throw DTypeError("positive: takes numeric dtypes, not bool");
  return x;
}
Tensor sign(const Tensor& x) { return unary(UnaryKind::kSign, x); }
Tensor square(const Tensor& x) { return unary(UnaryKind::kSquare, x); }
Tensor floor(const Tensor& x) { return rounding(UnaryKind::kFloor, x); }
Tensor ceil(const Tensor& x) { return rounding(UnaryKind::kCeil, x); }
Tensor round(const Tensor& x) { return rounding(UnaryKind::kRound, x); }
Tensor trunc(const Tensor& x) { return rounding(UnaryKind::kTrunc, x); }

Tensor exp(const Tensor& x) { return floating_unary(UnaryKind::kExp, x); }
Tensor expm1(const Tensor& x) { return floating_unary(UnaryKind::kExpm1, x); }
Tensor log(const Tensor& x) { return floating_unary(UnaryKind::kLog, x); }
Tensor log1p(const Tensor& x) { return floating_unary(UnaryKind::kLog1p, x); }
Tensor log2(const Tensor& x) { return floating_unary(UnaryKind::kLog2, x); }
Tensor log10(const Tensor& x) { return floating_unary(UnaryKind::kLog10, x); }
Tensor sqrt(const Tensor& x) { return floating_unary(UnaryKind::kSqrt, x); }
Tensor rsqrt(const Tensor& x) { return floating_unary(UnaryKind::kRsqrt, x); }
Tensor reciprocal(const Tensor& x) { return floating_unary(UnaryKind::kReciprocal, x); }
Tensor sin(const Tensor& x) { return floating_unary(UnaryKind::kSin, x); }
Tensor cos(const Tensor& x) { return floating_unary(UnaryKind::kCos, x); }
Tensor tan(const Tensor& x) { return floating_unary(UnaryKind::kTan, x); }
Tensor asin(const Tensor& x) { return floating_unary(UnaryKind::kAsin, x); }
Tensor acos(const Tensor& x) { return floating_unary(UnaryKind::kAcos, x); }
Tensor atan(const Tensor& x) { return floating_unary(UnaryKind::kAtan, x); }
Tensor sinh(const Tensor& x) { return floating_unary(UnaryKind::kSinh, x); }
Tensor cosh(const Tensor& x) { return floating_unary(UnaryKind::kCosh, x); }
Tensor tanh(const Tensor& x) { return floating_unary(UnaryKind::kTanh, x); }
Tensor asinh(const Tensor& x) { return floating_unary(UnaryKind::kAsinh, x); }
Tensor acosh(const Tensor& x) { return floating_unary(UnaryKind::kAcosh, x); }
Tensor atanh(const Tensor& x) { return floating_unary(UnaryKind::kAtanh, x); }
Tensor erf(const Tensor& x) { return floating_unary(UnaryKind::kErf, x); }
Tensor erfinv(const Tensor& x) { return floating_unary(UnaryKind::kErfInv, x); }

Tensor sigmoid(const Tensor& x) { return floating_unary(UnaryKind::kSigmoid, x); }
Tensor silu(const Tensor& x) { return floating_unary(UnaryKind::kSilu, x); }
Tensor gelu(const Tensor& x) { return floating_unary(UnaryKind::kGelu, x); }
Tensor gelu_tanh(const Tensor& x) { return floating_unary(UnaryKind::kGeluTanh, x); }

Tensor relu(const Tensor& x) {
  return is_integer(detail::require("relu", x).dtype()) ? maximum(x, 0)
                                                        : floating_unary(UnaryKind::kRelu, x);
}

Tensor isnan(const Tensor& x) { return classify(UnaryKind::kIsNan, x, false); }
Tensor isinf(const Tensor& x) { return classify(UnaryKind::kIsInf, x, false); }
Tensor isfinite(const Tensor& x) { return classify(UnaryKind::kIsFinite, x, true); }
Tensor signbit(const Tensor& x) {
  return is_floating(detail::require("signbit", x).dtype()) ? copysign(1.0, x) < 0 : x < 0;
}
Tensor logical_not(const Tensor& x) { return unary(UnaryKind::kLogicalNot, x); }
Tensor bitwise_invert(const Tensor& x) { return unary(UnaryKind::kBitwiseNot, x); }

Tensor add(const Operand& a, const Operand& b) { return arithmetic(BinaryKind::kAdd, a, b); }
Tensor subtract(const Operand& a, const Operand& b) {
  return arithmetic(BinaryKind::kSubtract, a, b);
}
Tensor multiply(const Operand& a, const Operand& b) {
  return arithmetic(BinaryKind::kMultiply, a, b);
}
Tensor divide(const Operand& a, const Operand& b) { return floating(BinaryKind::kDivide, a, b); }
Tensor floor_divide(const Operand& a, const Operand& b) {
  return arithmetic(BinaryKind::kFloorDivide, a, b);
}
Tensor remainder(const Operand& a, const Operand& b) {
  return arithmetic(BinaryKind::kRemainder, a, b);
}

Tensor power(const Operand& a, const Operand& b) {
  // The one power that is written often and has a cheaper equal.
  if (a.tensor() && !b.tensor() && b.scalar().real == 2) {
    const DType dtype = detail::meeting_dtype("power", a, b);
    return square(detail::cast_to(*a.tensor(), dtype == DType::kBool ? DType::kI32 : dtype));
  }
  return arithmetic(BinaryKind::kPower, a, b);
}

Tensor maximum(const Operand& a, const Operand& b) {
  const DType dtype = detail::meeting_dtype("maximum", a, b);
  return binary_in(dtype == DType::kBool ? BinaryKind::kLogicalOr : BinaryKind::kMaximum, a, b,
                   dtype);
}

Tensor minimum(const Operand& a, const Operand& b) {
  const DType dtype = detail::meeting_dtype("minimum", a, b);
  return binary_in(dtype == DType::kBool ? BinaryKind::kLogicalAnd : BinaryKind::kMinimum, a, b,
                   dtype);
}

Tensor atan2(const Operand& a, const Operand& b) { return floating(BinaryKind::kAtan2, a, b); }
Tensor logaddexp(const Operand& a, const Operand& b) {
  return floating(BinaryKind::kLogAddExp, a, b);
}
Tensor hypot(const Operand& a, const Operand& b) { return floating(BinaryKind::kHypot, a, b); }
Tensor copysign(const Operand& a, const Operand& b) {
  return floating(BinaryKind::kCopysign, a, b);
}

Tensor bitwise_and(const Operand& a, const Operand& b) {
  return binary(BinaryKind::kBitwiseAnd, a, b);
}
Tensor bitwise_or(const Operand& a, const Operand& b) {
  return binary(BinaryKind::kBitwiseOr, a, b);
}
Tensor bitwise_xor(const Operand& a, const Operand& b) {
  return binary(BinaryKind::kBitwiseXor, a, b);
}
Tensor left_shift(const Operand& a, const Operand& b) {
  return binary(BinaryKind::kShiftLeft, a, b);
}
Tensor right_shift(const Operand& a, const Operand& b) {
  return binary(BinaryKind::kShiftRight, a, b);
}

Tensor equal(const Operand& a, const Operand& b) { return binary(BinaryKind::kEqual, a, b); }
Tensor not_equal(const Operand& a, const Operand& b) { return binary(BinaryKind::kNotEqual, a, b); }
Tensor less(const Operand& a, const Operand& b) { return binary(BinaryKind::kLess, a, b); }
Tensor less_equal(const Operand& a, const Operand& b) {
  return binary(BinaryKind::kLessEqual, a, b);
}
Tensor greater(const Operand& a, const Operand& b) { return binary(BinaryKind::kGreater, a, b); }
Tensor greater_equal(const Operand& a, const Operand& b) {
  return binary(BinaryKind::kGreaterEqual, a, b);
}
Tensor logical_and(const Operand& a, const Operand& b) {
  return logical(BinaryKind::kLogicalAnd, a, b);
}
Tensor logical_or(const Operand& a, const Operand& b) {
  return logical(BinaryKind::kLogicalOr, a, b);
}
Tensor logical_xor(const Operand& a, const Operand& b) {
  return logical(BinaryKind::kLogicalXor, a, b);
}

Tensor where(const Tensor& condition, const Operand& a, const Operand& b) {
  const Tensor test = astype(condition, DType::kBool);
  const DType dtype = a.tensor() || b.tensor() ? detail::meeting_dtype("where", a, b)
                                               : promote(a.scalar_kind(), b.scalar_kind());
  const Tensor left = detail::materialize("where", a, dtype, condition.device());
  const Tensor right = detail::materialize("where", b, dtype, condition.device());
  return make_node(op::Select{}, {&test, &left, &right});
}

Tensor clip(const Tensor& x, const std::optional<Operand>& low,
            const std::optional<Operand>& high) {
  Tensor result = detail::require("clip", x);
  if (low) result = maximum(result, *low);
  if (high) result = minimum(result, *high);
  return result;
}

Tensor isclose(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  static_cast<void>(detail::meeting_dtype("isclose", a, b));
  const Tensor left = astype(a, DType::kF32);
  const Tensor right = astype(b, DType::kF32);
  const Tensor near = abs(left - right) <= abs(right) * rtol + atol;
  const Tensor close = (near & isfinite(right)) | (a == b);
  return equal_nan ? close | (isnan(left) & isnan(right)) : close;
}

Tensor allclose(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  return all(isclose(a, b, rtol, atol, equal_nan));
}

}  // namespace metal_candle
