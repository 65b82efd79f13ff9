// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Floating arithmetic is done in double and rounded once; integers wrap.
#include "metal_candle/optimize/constants.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace metal_candle {
namespace {

double round_real(double value, DType dtype) {
  return dispatch_dtype(dtype, [&](auto zero) -> double {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>) {
      return static_cast<double>(static_cast<float>(T(static_cast<float>(value))));
    } else {
      return static_cast<double>(static_cast<float>(value));
    }
  });
}

std::int64_t wrap(std::int64_t value, DType dtype) {
  return dispatch_dtype(dtype, [&](auto zero) -> std::int64_t {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, bool>) {
      return value != 0;
    } else if constexpr (std::is_integral_v<T>) {
      return static_cast<std::int64_t>(static_cast<T>(value));
    } else {
      return value;
    }
  });
}

/// Truncates; what does not fit becomes the nearest end, and NaN becomes 0.
std::int64_t saturate(double value, DType dtype) {
  return dispatch_dtype(dtype, [&](auto zero) -> std::int64_t {
    using T = decltype(zero);
    if constexpr (std::is_integral_v<T>) {
      using Limits = std::numeric_limits<T>;
      if (std::isnan(value)) return 0;
      if (value <= static_cast<double>(Limits::min())) return std::int64_t{Limits::min()};
      if (value >= static_cast<double>(Limits::max())) return std::int64_t{Limits::max()};
      return static_cast<std::int64_t>(value);
    } else {
      return 0;
    }
  });
}

Scalar boolean(bool value) { return Scalar::from_integer(value ? 1 : 0); }

std::optional<double> apply(UnaryKind kind, double x) {
  switch (kind) {
    case UnaryKind::kAbs:
      return std::abs(x);
    case UnaryKind::kNegative:
      return -x;
    case UnaryKind::kSquare:
      return x * x;
    case UnaryKind::kExp:
      return std::exp(x);
    case UnaryKind::kLog:
      return std::log(x);
    case UnaryKind::kSqrt:
      return std::sqrt(x);
    case UnaryKind::kRsqrt:
      return 1 / std::sqrt(x);
    case UnaryKind::kReciprocal:
      return 1 / x;
    case UnaryKind::kSin:
      return std::sin(x);
    case UnaryKind::kCos:
      return std::cos(x);
    case UnaryKind::kTanh:
      return std::tanh(x);
    case UnaryKind::kErf:
      return std::erf(x);
    case UnaryKind::kFloor:
      return std::floor(x);
    case UnaryKind::kCeil:
      return std::ceil(x);
    case UnaryKind::kTrunc:
      return std::trunc(x);
    default:
      return std::nullopt;
  }
}

std::optional<double> apply(BinaryKind kind, double a, double b) {
  const bool nan = std::isnan(a) || std::isnan(b);
  switch (kind) {
    case BinaryKind::kAdd:
      return a + b;
    case BinaryKind::kSubtract:
      return a - b;
    case BinaryKind::kMultiply:
      return a * b;
    case BinaryKind::kDivide:
      return a / b;
    case BinaryKind::kPower:
      return std::pow(a, b);
    case BinaryKind::kMaximum:
      return nan ? a + b : std::max(a, b);
    case BinaryKind::kMinimum:
      return nan ? a + b : std::min(a, b);
    default:
      return std::nullopt;
  }
}

std::optional<std::int64_t> apply(BinaryKind kind, std::int64_t a, std::int64_t b) {
  // Unsigned, where overflow wraps.
  const auto ua = static_cast<std::uint64_t>(a);
  const auto ub = static_cast<std::uint64_t>(b);
  switch (kind) {
    case BinaryKind::kAdd:
      return static_cast<std::int64_t>(ua + ub);
    case BinaryKind::kSubtract:
      return static_cast<std::int64_t>(ua - ub);
    case BinaryKind::kMultiply:
      return static_cast<std::int64_t>(ua * ub);
    case BinaryKind::kMaximum:
      return std::max(a, b);
    case BinaryKind::kMinimum:
      return std::min(a, b);
    default:
      return std::nullopt;
  }
}

template <typename T>
std::optional<bool> compare(BinaryKind kind, T a, T b) {
  switch (kind) {
    case BinaryKind::kEqual:
      return a == b;
    case BinaryKind::kNotEqual:
      return a != b;
    case BinaryKind::kLess:
      return a < b;
    case BinaryKind::kLessEqual:
      return a <= b;
    case BinaryKind::kGreater:
      return a > b;
    case BinaryKind::kGreaterEqual:
      return a >= b;
    case BinaryKind::kLogicalAnd:
      return a != 0 && b != 0;
    case BinaryKind::kLogicalOr:
      return a != 0 || b != 0;
    case BinaryKind::kLogicalXor:
      return (a != 0) != (b != 0);
    default:
      return std::nullopt;
  }
}

}  // namespace

Scalar as_stored(const Scalar& value, DType dtype) {
  if (is_floating(dtype)) return Scalar::from_real(round_real(value.real, dtype));
  return Scalar::from_integer(wrap(value.integer, dtype));
}

Scalar cast_constant(const Scalar& value, DType from, DType to) {
  const Scalar stored = as_stored(value, from);
  if (is_floating(to)) return Scalar::from_real(round_real(stored.real, to));
  if (to == DType::kBool) {
    return boolean(is_floating(from) ? stored.real != 0 : stored.integer != 0);
  }
  return Scalar::from_integer(is_floating(from) ? saturate(stored.real, to)
                                                : wrap(stored.integer, to));
}

std::optional<double> constant_value(const ComputationGraph& graph, NodeId node) {
  // Longer detours are for constant folding to shorten; a limit keeps matching linear.
  constexpr int kMaxDetour = 6;
  std::array<DType, kMaxDetour + 1> dtypes{};
  for (int hops = 0; hops <= kMaxDetour; ++hops) {
    dtypes[static_cast<std::size_t>(hops)] = graph.node(node).spec.dtype;
    if (const auto* full = graph.get_if<op::Full>(node)) {
      Scalar value = as_stored(full->value, graph.node(node).spec.dtype);
      for (auto i = static_cast<std::size_t>(hops); i > 0; --i) {
        value = cast_constant(value, dtypes[i], dtypes[i - 1]);
      }
      return value.real;
    }
    const bool transparent = graph.get_if<op::Cast>(node) != nullptr ||
                             graph.get_if<op::Reshape>(node) != nullptr ||
                             graph.get_if<op::Broadcast>(node) != nullptr;
    if (!transparent) return std::nullopt;
    node = graph.node(node).inputs[0];
  }
  return std::nullopt;
}

std::optional<Scalar> fold_unary(UnaryKind kind, const Scalar& x, DType dtype) {
  if (kind == UnaryKind::kLogicalNot) {
    return boolean(is_floating(dtype) ? x.real == 0 : x.integer == 0);
  }
  if (is_predicate(kind)) {
    const bool floating = is_floating(dtype);
    if (kind == UnaryKind::kIsNan) return boolean(floating && std::isnan(x.real));
    if (kind == UnaryKind::kIsInf) return boolean(floating && std::isinf(x.real));
    return boolean(!floating || std::isfinite(x.real));
  }
  if (is_floating(dtype)) {
    const auto value = apply(kind, x.real);
    if (!value) return std::nullopt;
    return Scalar::from_real(round_real(*value, dtype));
  }
  if (kind == UnaryKind::kNegative) {
    return Scalar::from_integer(wrap(*apply(BinaryKind::kSubtract, 0, x.integer), dtype));
  }
  if (kind == UnaryKind::kSquare) {
    return Scalar::from_integer(wrap(*apply(BinaryKind::kMultiply, x.integer, x.integer), dtype));
  }
  return std::nullopt;
}

std::optional<Scalar> fold_binary(BinaryKind kind, const Scalar& a, const Scalar& b, DType dtype) {
  if (is_predicate(kind)) {
    const auto value =
        is_floating(dtype) ? compare(kind, a.real, b.real) : compare(kind, a.integer, b.integer);
    if (!value) return std::nullopt;
    return boolean(*value);
  }
  if (is_floating(dtype)) {
    const auto value = apply(kind, a.real, b.real);
    if (!value) return std::nullopt;
    return Scalar::from_real(round_real(*value, dtype));
  }
  // Arithmetic on bool is not arithmetic on integers.
  if (dtype == DType::kBool) return std::nullopt;
  const auto value = apply(kind, a.integer, b.integer);
  if (!value) return std::nullopt;
  return Scalar::from_integer(wrap(*value, dtype));
}

}  // namespace metal_candle
