// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Functions that work element by element: those of the array API standard, and activations.
//
// Shapes: operands broadcast against each other as in NumPy; ShapeError if they do not.
// Dtypes: operands meet in promote(a, b). A C++ scalar is weak: it takes the tensor's dtype, except
// that a floating scalar makes integers f32 and an integer scalar makes bools i32; DTypeError for
// an integer that does not fit. Where two scalars meet no tensor, an Error is thrown.
// Functions that need floating operands turn integers and bools into f32 first.
#pragma once

#include <optional>
#include <type_traits>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// x converted; x itself when it has that dtype already. Float to integer truncates and saturates
/// (NaN gives 0); anything to bool is x != 0.
[[nodiscard]] Tensor astype(const Tensor& x, DType dtype);
[[nodiscard]] inline Tensor cast(const Tensor& x, DType dtype) { return astype(x, dtype); }

// ---- Any numeric dtype; DTypeError for bool -----------------------------------------------------
[[nodiscard]] Tensor abs(const Tensor& x);
[[nodiscard]] Tensor negative(const Tensor& x);
/// x itself.
[[nodiscard]] Tensor positive(const Tensor& x);
/// -1, 0 or 1; NaN for NaN.
[[nodiscard]] Tensor sign(const Tensor& x);
[[nodiscard]] Tensor square(const Tensor& x);
// Rounding. Integers are returned as they are.
[[nodiscard]] Tensor floor(const Tensor& x);
[[nodiscard]] Tensor ceil(const Tensor& x);
/// To the nearest; ties to even.
[[nodiscard]] Tensor round(const Tensor& x);
[[nodiscard]] Tensor trunc(const Tensor& x);

// ---- Floating -----------------------------------------------------------------------------------
[[nodiscard]] Tensor exp(const Tensor& x);
[[nodiscard]] Tensor expm1(const Tensor& x);
[[nodiscard]] Tensor log(const Tensor& x);
[[nodiscard]] Tensor log1p(const Tensor& x);
[[nodiscard]] Tensor log2(const Tensor& x);
[[nodiscard]] Tensor log10(const Tensor& x);
[[nodiscard]] Tensor sqrt(const Tensor& x);
[[nodiscard]] Tensor rsqrt(const Tensor& x);
[[nodiscard]] Tensor reciprocal(const Tensor& x);
[[nodiscard]] Tensor sin(const Tensor& x);
[[nodiscard]] Tensor cos(const Tensor& x);
[[nodiscard]] Tensor tan(const Tensor& x);
[[nodiscard]] Tensor asin(const Tensor& x);
[[nodiscard]] Tensor acos(const Tensor& x);
[[nodiscard]] Tensor atan(const Tensor& x);
[[nodiscard]] Tensor sinh(const Tensor& x);
[[nodiscard]] Tensor cosh(const Tensor& x);
[[nodiscard]] Tensor tanh(const Tensor& x);
[[nodiscard]] Tensor asinh(const Tensor& x);
[[nodiscard]] Tensor acosh(const Tensor& x);
[[nodiscard]] Tensor atanh(const Tensor& x);
[[nodiscard]] Tensor erf(const Tensor& x);
[[nodiscard]] Tensor erfinv(const Tensor& x);

// ---- Activations, floating ----------------------------------------------------------------------
/// 1 / (1 + exp(-x)).
[[nodiscard]] Tensor sigmoid(const Tensor& x);
/// max(x, 0). Integers stay integers.
[[nodiscard]] Tensor relu(const Tensor& x);
/// x * sigmoid(x).
[[nodiscard]] Tensor silu(const Tensor& x);
/// 0.5 x (1 + erf(x / sqrt(2))).
[[nodiscard]] Tensor gelu(const Tensor& x);
/// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
[[nodiscard]] Tensor gelu_tanh(const Tensor& x);

// ---- Tests of one operand: bool -----------------------------------------------------------------
[[nodiscard]] Tensor isnan(const Tensor& x);
[[nodiscard]] Tensor isinf(const Tensor& x);
[[nodiscard]] Tensor isfinite(const Tensor& x);
/// Whether the sign is negative: that of zeros and NaN as well.
[[nodiscard]] Tensor signbit(const Tensor& x);
/// x == 0.
[[nodiscard]] Tensor logical_not(const Tensor& x);
/// Integers and bool, of the dtype of x.
[[nodiscard]] Tensor bitwise_invert(const Tensor& x);

// ---- Arithmetic. Bools count as i32 (maximum and minimum of bools stay bools)
// --------------------
[[nodiscard]] Tensor add(const Operand& a, const Operand& b);
[[nodiscard]] Tensor subtract(const Operand& a, const Operand& b);
[[nodiscard]] Tensor multiply(const Operand& a, const Operand& b);
/// Floating: integers give f32.
[[nodiscard]] Tensor divide(const Operand& a, const Operand& b);
/// floor(a / b); integers round towards minus infinity.
[[nodiscard]] Tensor floor_divide(const Operand& a, const Operand& b);
/// a - floor_divide(a, b) * b: the sign is that of b.
[[nodiscard]] Tensor remainder(const Operand& a, const Operand& b);
[[nodiscard]] Tensor power(const Operand& a, const Operand& b);
/// NaN if either operand is.
[[nodiscard]] Tensor maximum(const Operand& a, const Operand& b);
[[nodiscard]] Tensor minimum(const Operand& a, const Operand& b);
// Floating.
[[nodiscard]] Tensor atan2(const Operand& a, const Operand& b);
/// log(exp(a) + exp(b)), without overflow.
[[nodiscard]] Tensor logaddexp(const Operand& a, const Operand& b);
[[nodiscard]] Tensor hypot(const Operand& a, const Operand& b);
/// The magnitude of a with the sign of b.
[[nodiscard]] Tensor copysign(const Operand& a, const Operand& b);
/// The value of the dtype next to a in the direction of b; b if they are equal. No gradient flows
/// through it.
[[nodiscard]] Tensor nextafter(const Operand& a, const Operand& b);

// ---- Bits: integers and bool (shifts: integers); DTypeError for floating operands ---------------
[[nodiscard]] Tensor bitwise_and(const Operand& a, const Operand& b);
[[nodiscard]] Tensor bitwise_or(const Operand& a, const Operand& b);
[[nodiscard]] Tensor bitwise_xor(const Operand& a, const Operand& b);
[[nodiscard]] Tensor left_shift(const Operand& a, const Operand& b);
/// Arithmetic (keeps the sign) for signed types.
[[nodiscard]] Tensor right_shift(const Operand& a, const Operand& b);

// ---- Comparisons and logic: bool ----------------------------------------------------------------
[[nodiscard]] Tensor equal(const Operand& a, const Operand& b);
[[nodiscard]] Tensor not_equal(const Operand& a, const Operand& b);
[[nodiscard]] Tensor less(const Operand& a, const Operand& b);
[[nodiscard]] Tensor less_equal(const Operand& a, const Operand& b);
[[nodiscard]] Tensor greater(const Operand& a, const Operand& b);
[[nodiscard]] Tensor greater_equal(const Operand& a, const Operand& b);
// Operands of other dtypes count as x != 0.
[[nodiscard]] Tensor logical_and(const Operand& a, const Operand& b);
[[nodiscard]] Tensor logical_or(const Operand& a, const Operand& b);
[[nodiscard]] Tensor logical_xor(const Operand& a, const Operand& b);

// ---- More than two operands ---------------------------------------------------------------------
/// a where condition, else b. The condition, if not bool, counts as condition != 0. Two scalars
/// give f32, i32 or bool.
[[nodiscard]] Tensor where(const Tensor& condition, const Operand& a, const Operand& b);
/// minimum(maximum(x, low), high). A missing bound is none.
[[nodiscard]] Tensor clip(const Tensor& x, const std::optional<Operand>& low,
                          const std::optional<Operand>& high);
/// bool: |a - b| <= atol + rtol * |b|, or both the same infinity; NaN equals NaN only if equal_nan.
[[nodiscard]] Tensor isclose(const Tensor& a, const Tensor& b, double rtol = 1e-5,
                             double atol = 1e-8, bool equal_nan = false);
/// bool []: whether every element isclose().
[[nodiscard]] Tensor allclose(const Tensor& a, const Tensor& b, double rtol = 1e-5,
                              double atol = 1e-8, bool equal_nan = false);

// ---- Operators, where at least one side is a Tensor ---------------------------------------------
namespace detail {
template <typename T>
concept OperandLike = std::same_as<T, Tensor> || std::same_as<T, Operand> || ScalarValue<T>;
template <typename A, typename B>
concept TensorPair = OperandLike<A> && OperandLike<B> &&
    (std::same_as<A, Tensor> || std::same_as<B, Tensor>);
}  // namespace detail

template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator+(const A& a, const B& b) { return add(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator-(const A& a, const B& b) { return subtract(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator*(const A& a, const B& b) { return multiply(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator/(const A& a, const B& b) { return divide(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator%(const A& a, const B& b) { return remainder(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator&(const A& a, const B& b) { return bitwise_and(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator|(const A& a, const B& b) { return bitwise_or(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator^(const A& a, const B& b) { return bitwise_xor(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator<<(const A& a, const B& b) { return left_shift(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator>>(const A& a, const B& b) { return right_shift(a, b); }
/// Element by element: see Tensor::same_node() for the identity of handles.
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator==(const A& a, const B& b) { return equal(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator!=(const A& a, const B& b) { return not_equal(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator<(const A& a, const B& b) { return less(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator<=(const A& a, const B& b) { return less_equal(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator>(const A& a, const B& b) { return greater(a, b); }
template <typename A, typename B>
requires detail::TensorPair<A, B>
[[nodiscard]] Tensor operator>=(const A& a, const B& b) { return greater_equal(a, b); }
[[nodiscard]] inline Tensor operator-(const Tensor& x) { return negative(x); }
[[nodiscard]] inline Tensor operator!(const Tensor& x) { return logical_not(x); }
[[nodiscard]] inline Tensor operator~(const Tensor& x) { return bitwise_invert(x); }

}  // namespace metal_candle
