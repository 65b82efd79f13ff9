// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Steps on bool and integers, and conversions. Plain loops: these are bound by memory, and the
// compiler vectorises those that gain from it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "metal_candle/backend/cpu/elementwise_steps.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::cpu {
namespace {

// The type arithmetic is done in: wide enough not to promote to a signed type behind our back, and
// unsigned, so that it wraps.
template <typename T>
using Wide = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
// The signed or unsigned type in which values compare and divide.
template <typename T>
using Value = std::conditional_t<std::is_same_v<T, bool>, std::int32_t, T>;

// Narrowing drops the high bits; to bool it asks whether there are any.
template <typename T>
T narrow(Wide<T> value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value != 0;
  } else {
    return static_cast<T>(value);
  }
}
template <typename T>
Wide<T> widen(T value) {
  return static_cast<Wide<T>>(value);
}

template <typename T>
constexpr bool kIsSigned = std::is_signed_v<T>;

// Rounds towards minus infinity. Division by zero gives 0, and the one quotient that overflows
// wraps.
template <typename T>
T floor_divide(T a, T b) {
  if (b == 0) return 0;
  if constexpr (kIsSigned<T>) {
    if (b == -1) return narrow<T>(Wide<T>{0} - widen(a));
    const auto quotient = static_cast<T>(a / b);
    return a % b != 0 && (a < 0) != (b < 0) ? static_cast<T>(quotient - 1) : quotient;
  } else {
    return static_cast<T>(a / b);
  }
}

// Has the sign of the divisor.
template <typename T>
T remainder(T a, T b) {
  if (b == 0) return 0;
  if constexpr (kIsSigned<T>) {
    if (b == -1) return 0;
    const auto r = static_cast<T>(a % b);
    return r != 0 && (r < 0) != (b < 0) ? static_cast<T>(r + b) : r;
  } else {
    return static_cast<T>(a % b);
  }
}

// By squaring, wrapping. A negative exponent truncates 1 / a^-b towards zero.
template <typename T>
T power(T a, T b) {
  if constexpr (kIsSigned<T>) {
    if (b < 0) {
      if (a == 1) return 1;
      return static_cast<T>(a == -1 ? (b % 2 == 0 ? 1 : -1) : 0);
    }
  }
  Wide<T> result = 1;
  Wide<T> square = widen(a);
  for (Wide<T> exponent = widen(b); exponent != 0; exponent >>= 1, square *= square) {
    if (exponent & 1u) result *= square;
  }
  return narrow<T>(result);
}

template <typename T>
constexpr Wide<T> kBits = sizeof(T) * 8;

template <typename T>
T shift_left(T a, T b) {
  const Wide<T> count = widen(b);
  return count < kBits<T> ? narrow<T>(widen(a) << count) : T{0};
}
template <typename T>
T shift_right(T a, T b) {
  const Wide<T> count = std::min<Wide<T>>(widen(b), kBits<T>);
  if constexpr (kIsSigned<T>) return static_cast<T>(a >> std::min<Wide<T>>(count, kBits<T> - 1));
  return count < kBits<T> ? static_cast<T>(a >> count) : T{0};
}

template <typename T>
T sign(T a) {
  return static_cast<T>((a > T{0}) - (a < T{0}));
}

template <typename T>
T absolute(T a) {
  return a < T{0} ? narrow<T>(Wide<T>{0} - widen(a)) : a;
}

// out[i] = fn(x[i]) or fn(x[i], y[i]); fn is stateless. bool is computed on as the integers 0
// and 1.
template <typename T, typename Out, typename Fn>
void unary_loop(const StepArguments& a) {
  const auto* x = static_cast<const T*>(a.in[0]);
  auto* out = static_cast<Out*>(a.out);
  for (std::size_t i = 0; i < a.count; ++i) out[i] = static_cast<Out>(Fn()(Value<T>(x[i])));
}
template <typename T, typename Out, typename Fn>
void binary_loop(const StepArguments& a) {
  const auto* x = static_cast<const T*>(a.in[0]);
  const auto* y = static_cast<const T*>(a.in[1]);
  auto* out = static_cast<Out*>(a.out);
  for (std::size_t i = 0; i < a.count; ++i) {
    out[i] = static_cast<Out>(Fn()(Value<T>(x[i]), Value<T>(y[i])));
  }
}
template <typename Out, typename T, typename Fn>
StepFn unary_step(Fn) {
  return unary_loop<T, Out, Fn>;
}
template <typename Out, typename T, typename Fn>
StepFn binary_step(Fn) {
  return binary_loop<T, Out, Fn>;
}

template <typename T>
StepFn unary_of(UnaryKind kind) {
  using V = Value<T>;
  switch (kind) {
    case UnaryKind::kAbs:
      return unary_step<T, T>([](V x) { return absolute(x); });
    case UnaryKind::kNegative:
      return unary_step<T, T>([](V x) { return narrow<V>(Wide<V>{0} - widen(x)); });
    case UnaryKind::kSign:
      return unary_step<T, T>([](V x) { return sign(x); });
    case UnaryKind::kSquare:
      return unary_step<T, T>([](V x) { return narrow<V>(widen(x) * widen(x)); });
    case UnaryKind::kFloor:
    case UnaryKind::kCeil:
    case UnaryKind::kRound:
    case UnaryKind::kTrunc:
      return unary_step<T, T>([](V x) { return x; });
    case UnaryKind::kRelu:
      return unary_step<T, T>([](V x) { return std::max(x, V{0}); });
    case UnaryKind::kIsNan:
    case UnaryKind::kIsInf:
      return unary_step<bool, T>([](V) { return false; });
    case UnaryKind::kIsFinite:
      return unary_step<bool, T>([](V) { return true; });
    case UnaryKind::kLogicalNot:
      return unary_step<bool, T>([](V x) { return x == 0; });
    case UnaryKind::kBitwiseNot:
      if constexpr (std::is_same_v<T, bool>) {
        return unary_step<T, T>([](V x) { return x == 0; });
      } else {
        return unary_step<T, T>([](V x) { return static_cast<V>(~x); });
      }
    default:
      return nullptr;
  }
}

template <typename T>
StepFn arithmetic_of(BinaryKind kind) {
  using V = Value<T>;
  switch (kind) {
    case BinaryKind::kAdd:
      return binary_step<T, T>([](V x, V y) { return narrow<V>(widen(x) + widen(y)); });
    case BinaryKind::kSubtract:
      return binary_step<T, T>([](V x, V y) { return narrow<V>(widen(x) - widen(y)); });
    case BinaryKind::kMultiply:
      return binary_step<T, T>([](V x, V y) { return narrow<V>(widen(x) * widen(y)); });
    case BinaryKind::kFloorDivide:
      return binary_step<T, T>([](V x, V y) { return floor_divide(x, y); });
    case BinaryKind::kRemainder:
      return binary_step<T, T>([](V x, V y) { return remainder(x, y); });
    case BinaryKind::kPower:
      return binary_step<T, T>([](V x, V y) { return power(x, y); });
    case BinaryKind::kMaximum:
      return binary_step<T, T>([](V x, V y) { return std::max(x, y); });
    case BinaryKind::kMinimum:
      return binary_step<T, T>([](V x, V y) { return std::min(x, y); });
    case BinaryKind::kBitwiseAnd:
      return binary_step<T, T>([](V x, V y) { return static_cast<V>(x & y); });
    case BinaryKind::kBitwiseOr:
      return binary_step<T, T>([](V x, V y) { return static_cast<V>(x | y); });
    case BinaryKind::kBitwiseXor:
      return binary_step<T, T>([](V x, V y) { return static_cast<V>(x ^ y); });
    case BinaryKind::kShiftLeft:
      return binary_step<T, T>([](V x, V y) { return shift_left(x, y); });
    case BinaryKind::kShiftRight:
      return binary_step<T, T>([](V x, V y) { return shift_right(x, y); });
    default:
      return nullptr;
  }
}

template <typename T>
StepFn binary_of(BinaryKind kind) {
  using V = Value<T>;
  switch (kind) {
    case BinaryKind::kEqual:
      return binary_step<bool, T>([](V x, V y) { return x == y; });
    case BinaryKind::kNotEqual:
      return binary_step<bool, T>([](V x, V y) { return x != y; });
    case BinaryKind::kLess:
      return binary_step<bool, T>([](V x, V y) { return x < y; });
    case BinaryKind::kLessEqual:
      return binary_step<bool, T>([](V x, V y) { return x <= y; });
    case BinaryKind::kGreater:
      return binary_step<bool, T>([](V x, V y) { return x > y; });
    case BinaryKind::kGreaterEqual:
      return binary_step<bool, T>([](V x, V y) { return x >= y; });
    case BinaryKind::kLogicalAnd:
      return binary_step<bool, T>([](V x, V y) { return (x != 0) & (y != 0); });
    case BinaryKind::kLogicalOr:
      return binary_step<bool, T>([](V x, V y) { return (x != 0) | (y != 0); });
    case BinaryKind::kLogicalXor:
      return binary_step<bool, T>([](V x, V y) { return (x != 0) != (y != 0); });
    default:
      return arithmetic_of<T>(kind);
  }
}

// Truncates, saturates, and takes NaN to 0.
template <typename To, typename From>
To convert(From value) {
  if constexpr (std::is_same_v<To, bool>) {
    return value != From{0};
  } else if constexpr (std::is_same_v<From, float> && std::is_integral_v<To>) {
    // The first float beyond each end: both are powers of two, so exact.
    constexpr auto kHalfEnd = std::numeric_limits<To>::max() / 2 + 1;
    constexpr float kEnd = static_cast<float>(kHalfEnd) * 2.0f;
    constexpr auto kLowest = static_cast<float>(std::numeric_limits<To>::lowest());
    if (!(value > kLowest - 1.0f)) {
      return value <= kLowest ? std::numeric_limits<To>::lowest() : To{0};
    }
    return value < kEnd ? static_cast<To>(value) : std::numeric_limits<To>::max();
  } else {
    return static_cast<To>(value);
  }
}

template <typename From, typename To>
void cast_loop(const StepArguments& a) {
  const auto* in = static_cast<const From*>(a.in[0]);
  auto* out = static_cast<To*>(a.out);
  for (std::size_t i = 0; i < a.count; ++i) out[i] = convert<To>(in[i]);
}

template <typename T>
void select_loop(const StepArguments& a) {
  const auto* condition = static_cast<const bool*>(a.in[0]);
  const auto* x = static_cast<const T*>(a.in[1]);
  const auto* y = static_cast<const T*>(a.in[2]);
  auto* out = static_cast<T*>(a.out);
  for (std::size_t i = 0; i < a.count; ++i) out[i] = condition[i] ? x[i] : y[i];
}

template <typename T>
constexpr bool kIsFloating = is_floating(dtype_of<T>());
template <typename T>
constexpr bool kIsHalf = kIsFloating<T> && sizeof(T) == 2;

}  // namespace

StepFn integer_unary(UnaryKind kind, DType dtype) {
  return dispatch_dtype(dtype, [&](auto zero) -> StepFn {
    using T = decltype(zero);
    if constexpr (!kIsFloating<T>) return unary_of<T>(kind);
    return nullptr;
  });
}

StepFn integer_binary(BinaryKind kind, DType dtype) {
  return dispatch_dtype(dtype, [&](auto zero) -> StepFn {
    using T = decltype(zero);
    if constexpr (!kIsFloating<T>) return binary_of<T>(kind);
    return nullptr;
  });
}

StepFn select_step(std::size_t element_bytes) {
  return element_bytes == 1 ? select_loop<std::uint8_t> : select_loop<std::uint64_t>;
}

StepFn cast_step(DType from, DType to) {
  return dispatch_dtype(from, [&](auto from_zero) {
    return dispatch_dtype(to, [](auto to_zero) -> StepFn {
      using From = decltype(from_zero);
      using To = decltype(to_zero);
      if constexpr (!kIsHalf<From> && !kIsHalf<To>) return cast_loop<From, To>;
      return nullptr;
    });
  });
}

void fill_elements(void* out, const void* value, std::size_t element_bytes, std::size_t count) {
  dispatch_element_size(element_bytes, [&](auto element) {
    std::memcpy(&element, value, sizeof(element));
    std::fill_n(static_cast<decltype(element)*>(out), count, element);
  });
}

}  // namespace metal_candle::backend::cpu
