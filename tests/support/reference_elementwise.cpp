// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Elementwise operations, creation and random bits of the reference interpreter.
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "tests/support/reference_kernels.h"

namespace metal_candle::testing::reference {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Newton's method on erf from Giles's single-precision approximation ("Approximating the erfinv
/// function", GPU Computing Gems, 2011).
double erf_inverse(double y) {
  if (std::isnan(y) || std::abs(y) > 1) return kNaN;
  if (std::abs(y) == 1) return std::copysign(std::numeric_limits<double>::infinity(), y);
  if (y == 0) return y;
  const double w = -std::log1p(-y * y);
  double x = 0;
  if (w < 5) {
    constexpr std::array<double, 9> kCentral = {2.81022636e-08,  3.43273939e-07, -3.5233877e-06,
                                                -4.39150654e-06, 0.00021858087,  -0.00125372503,
                                                -0.00417768164,  0.246640727,    1.50140941};
    for (const double c : kCentral) x = x * (w - 2.5) + c;
  } else {
    constexpr std::array<double, 9> kTail = {-0.000200214257, 0.000100950558, 0.00134934322,
                                             -0.00367342844,  0.00573950773,  -0.0076224613,
                                             0.00943887047,   1.00167406,     2.83297682};
    for (const double c : kTail) x = x * (std::sqrt(w) - 3) + c;
  }
  x *= y;
  for (int step = 0; step < 3; ++step) {
    // erf(x) - y. Near the ends 1 - |y| is exact and erf is not.
    const double error = std::abs(y) > 0.5
                             ? std::copysign(1, y) * ((1 - std::abs(y)) - std::erfc(std::abs(x)))
                             : std::erf(x) - y;
    x -= error * std::sqrt(std::numbers::pi) / 2 * std::exp(x * x);
  }
  return x;
}

double round_half_even(double x) {
  const double r = std::round(x);
  return std::abs(x - std::trunc(x)) == 0.5 ? 2 * std::round(x / 2) : r;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double unary_real(UnaryKind kind, double x) {
  switch (kind) {
    case UnaryKind::kAbs:
      return std::abs(x);
    case UnaryKind::kNegative:
      return -x;
    case UnaryKind::kSign:
      return std::isnan(x) ? x : (x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0);
    case UnaryKind::kSquare:
      return x * x;
    case UnaryKind::kExp:
      return std::exp(x);
    case UnaryKind::kExpm1:
      return std::expm1(x);
    case UnaryKind::kLog:
      return std::log(x);
    case UnaryKind::kLog1p:
      return std::log1p(x);
    case UnaryKind::kLog2:
      return std::log2(x);
    case UnaryKind::kLog10:
      return std::log10(x);
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
    case UnaryKind::kTan:
      return std::tan(x);
    case UnaryKind::kAsin:
      return std::asin(x);
    case UnaryKind::kAcos:
      return std::acos(x);
    case UnaryKind::kAtan:
      return std::atan(x);
    case UnaryKind::kSinh:
      return std::sinh(x);
    case UnaryKind::kCosh:
      return std::cosh(x);
    case UnaryKind::kTanh:
      return std::tanh(x);
    case UnaryKind::kAsinh:
      return std::asinh(x);
    case UnaryKind::kAcosh:
      return std::acosh(x);
    case UnaryKind::kAtanh:
      return std::atanh(x);
    case UnaryKind::kErf:
      return std::erf(x);
    case UnaryKind::kErfInv:
      return erf_inverse(x);
    case UnaryKind::kFloor:
      return std::floor(x);
    case UnaryKind::kCeil:
      return std::ceil(x);
    case UnaryKind::kRound:
      return round_half_even(x);
    case UnaryKind::kTrunc:
      return std::trunc(x);
    case UnaryKind::kSigmoid:
      return sigmoid(x);
    case UnaryKind::kRelu:
      return x < 0 ? 0.0 : x;
    case UnaryKind::kGelu:
      return x * 0.5 * std::erfc(-x / std::numbers::sqrt2);
    case UnaryKind::kGeluTanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case UnaryKind::kSilu:
      return x * sigmoid(x);
    default:
      throw DTypeError("reference: not defined for floating dtypes");
  }
}

// Arithmetic that wraps is done on unsigned integers, where it is defined.
std::int64_t wrapping(std::uint64_t value) { return static_cast<std::int64_t>(value); }
std::uint64_t bits(std::int64_t value) { return static_cast<std::uint64_t>(value); }

std::int64_t unary_integer(UnaryKind kind, std::int64_t x) {
  switch (kind) {
    case UnaryKind::kAbs:
      return x < 0 ? wrapping(0 - bits(x)) : x;
    case UnaryKind::kNegative:
      return wrapping(0 - bits(x));
    case UnaryKind::kSign:
      return x > 0 ? 1 : x < 0 ? -1 : 0;
    case UnaryKind::kSquare:
      return wrapping(bits(x) * bits(x));
    case UnaryKind::kFloor:
    case UnaryKind::kCeil:
    case UnaryKind::kRound:
    case UnaryKind::kTrunc:
      return x;
    case UnaryKind::kRelu:
      return x < 0 ? 0 : x;
    case UnaryKind::kBitwiseNot:
      return ~x;
    default:
      throw DTypeError("reference: not defined for integer dtypes");
  }
}

bool unary_predicate(UnaryKind kind, double x) {
  switch (kind) {
    case UnaryKind::kIsNan:
      return std::isnan(x);
    case UnaryKind::kIsInf:
      return std::isinf(x);
    case UnaryKind::kIsFinite:
      return std::isfinite(x);
    default:
      return x == 0;  // kLogicalNot
  }
}

double log_add_exp(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return kNaN;
  const double larger = std::max(a, b), smaller = std::min(a, b);
  return std::isinf(larger) ? larger : larger + std::log1p(std::exp(smaller - larger));
}

double remainder_real(double a, double b) {
  const double r = std::fmod(a, b);
  if (r == 0) return std::copysign(0.0, b);
  return (r < 0) != (b < 0) ? r + b : r;
}

double binary_real(BinaryKind kind, double a, double b) {
  switch (kind) {
    case BinaryKind::kAdd:
      return a + b;
    case BinaryKind::kSubtract:
      return a - b;
    case BinaryKind::kMultiply:
      return a * b;
    case BinaryKind::kDivide:
      return a / b;
    case BinaryKind::kFloorDivide:
      return std::floor(a / b);
    case BinaryKind::kRemainder:
      return remainder_real(a, b);
    case BinaryKind::kPower:
      return std::pow(a, b);
    case BinaryKind::kMaximum:
      return std::isnan(a) || std::isnan(b) ? kNaN : std::max(a, b);
    case BinaryKind::kMinimum:
      return std::isnan(a) || std::isnan(b) ? kNaN : std::min(a, b);
    case BinaryKind::kAtan2:
      return std::atan2(a, b);
    case BinaryKind::kLogAddExp:
      return log_add_exp(a, b);
    case BinaryKind::kHypot:
      return std::hypot(a, b);
    case BinaryKind::kCopysign:
      return std::copysign(a, b);
    default:
      throw DTypeError("reference: not defined for floating dtypes");
  }
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (b == 0) return 0;
  if (b == -1) return wrapping(0 - bits(a));
  const std::int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

std::int64_t power_integer(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 1) return 1;
    return base == -1 ? (exponent % 2 == 0 ? 1 : -1) : 0;
  }
  std::uint64_t result = 1;
  std::uint64_t square = bits(base);
  for (; exponent > 0; exponent >>= 1, square *= square) {
    if (exponent & 1) result *= square;
  }
  return wrapping(result);
}

std::int64_t binary_integer(BinaryKind kind, std::int64_t a, std::int64_t b) {
  switch (kind) {
    case BinaryKind::kAdd:
      return wrapping(bits(a) + bits(b));
    case BinaryKind::kSubtract:
      return wrapping(bits(a) - bits(b));
    case BinaryKind::kMultiply:
      return wrapping(bits(a) * bits(b));
    case BinaryKind::kFloorDivide:
      return floor_divide(a, b);
    case BinaryKind::kRemainder:
      return b == 0 ? 0 : wrapping(bits(a) - bits(floor_divide(a, b)) * bits(b));
    case BinaryKind::kPower:
      return power_integer(a, b);
    case BinaryKind::kMaximum:
      return std::max(a, b);
    case BinaryKind::kMinimum:
      return std::min(a, b);
    case BinaryKind::kBitwiseAnd:
      return a & b;
    case BinaryKind::kBitwiseOr:
      return a | b;
    case BinaryKind::kBitwiseXor:
      return a ^ b;
    case BinaryKind::kShiftLeft:
      return b < 0 || b > 63 ? 0 : wrapping(bits(a) << b);
    case BinaryKind::kShiftRight:
      return a >> (b < 0 || b > 63 ? 63 : b);
    default:
      throw DTypeError("reference: not defined for integer dtypes");
  }
}

template <typename T>
bool binary_predicate(BinaryKind kind, T a, T b) {
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
    default:
      return (a != 0) != (b != 0);  // kLogicalXor
  }
}

/// Truncates and saturates; NaN gives 0.
std::int64_t saturate(double value, DType dtype) {
  if (std::isnan(value)) return 0;
  const auto clamp = [&](auto zero) {
    using Limits = std::numeric_limits<decltype(zero)>;
    if (value >= static_cast<double>(Limits::max()))
      return static_cast<std::int64_t>(Limits::max());
    if (value <= static_cast<double>(Limits::min()))
      return static_cast<std::int64_t>(Limits::min());
    return static_cast<std::int64_t>(value);
  };
  switch (dtype) {
    case DType::kU8:
      return clamp(std::uint8_t{});
    case DType::kI8:
      return clamp(std::int8_t{});
    case DType::kU32:
      return clamp(std::uint32_t{});
    case DType::kI32:
      return clamp(std::int32_t{});
    default:
      return clamp(std::int64_t{});
  }
}

void store_cast(HostTensor& out, std::int64_t i, const HostTensor& x, std::int64_t j) {
  if (out.is_real()) {
    out.r(i) = x.number(j);
  } else if (out.dtype() == DType::kBool) {
    out.n(i) = x.number(j) != 0 ? 1 : 0;  // A NaN is not zero.
  } else {
    out.n(i) = x.is_real() ? saturate(x.r(j), out.dtype()) : wrap_to(x.n(j), out.dtype());
  }
}

void store_unary(HostTensor& out, std::int64_t i, UnaryKind kind, const HostTensor& x,
                 std::int64_t j) {
  if (is_predicate(kind)) {
    out.n(i) = unary_predicate(kind, x.number(j)) ? 1 : 0;
  } else if (out.is_real()) {
    out.r(i) = unary_real(kind, x.r(j));
  } else if (out.dtype() == DType::kBool && kind == UnaryKind::kBitwiseNot) {
    out.n(i) = x.n(j) == 0 ? 1 : 0;
  } else {
    out.n(i) = wrap_to(unary_integer(kind, x.n(j)), out.dtype());
  }
}

void store_binary(HostTensor& out, std::int64_t i, BinaryKind kind, const HostTensor& a,
                  std::int64_t ja, const HostTensor& b, std::int64_t jb) {
  if (is_predicate(kind)) {
    const bool holds = a.is_real() ? binary_predicate(kind, a.r(ja), b.r(jb))
                                   : binary_predicate(kind, a.n(ja), b.n(jb));
    out.n(i) = holds ? 1 : 0;
  } else if (out.is_real()) {
    out.r(i) = binary_real(kind, a.r(ja), b.r(jb));
  } else {
    out.n(i) = wrap_to(binary_integer(kind, a.n(ja), b.n(jb)), out.dtype());
  }
}

}  // namespace

std::int64_t broadcast_position(const Dims& index, const Shape& from) {
  std::int64_t position = 0;
  const int missing = index.rank() - from.rank();
  for (int axis = 0; axis < from.rank(); ++axis) {
    position = position * from[axis] + (from[axis] == 1 ? 0 : index[axis + missing]);
  }
  return position;
}

HostTensor elementwise(const Operation& operation, Inputs inputs, const TensorSpec& spec) {
  HostTensor out(spec);
  for (std::int64_t i = 0; i < out.size(); ++i) {
    const Dims index = unravel(i, spec.shape);
    const auto at = [&](std::size_t k) { return broadcast_position(index, inputs[k]->shape()); };
    if (const auto* unary = std::get_if<op::Unary>(&operation)) {
      store_unary(out, i, unary->kind, *inputs[0], at(0));
    } else if (const auto* binary = std::get_if<op::Binary>(&operation)) {
      store_binary(out, i, binary->kind, *inputs[0], at(0), *inputs[1], at(1));
    } else if (std::holds_alternative<op::Select>(operation)) {
      const std::size_t chosen = inputs[0]->n(at(0)) != 0 ? 1 : 2;
      out.copy(i, *inputs[chosen], at(chosen));
    } else {
      store_cast(out, i, *inputs[0], at(0));
    }
  }
  return out;
}

HostTensor fused_elementwise(const ElementwiseProgram& program, Inputs inputs,
                             const TensorSpec& spec, Rounding rounding) {
  std::vector<HostTensor> registers;
  for (const HostTensor* input : inputs) registers.push_back(*input);
  for (const ElementwiseInstruction& instruction : program.instructions) {
    std::vector<const HostTensor*> operands;
    Shape shape;
    for (const std::int32_t argument : instruction.arguments) {
      operands.push_back(&registers[static_cast<std::size_t>(argument)]);
      shape = broadcast_shapes("elementwise", shape, operands.back()->shape());
    }
    registers.push_back(std::move(interpret_operation(instruction.operation, operands,
                                                      {shape, instruction.dtype}, rounding)[0]));
  }
  return broadcast(registers.back(), spec);
}

HostTensor full(const op::Full& operation, const TensorSpec& spec) {
  HostTensor out(spec);
  for (double& value : out.real) value = operation.value.real;
  for (std::int64_t& value : out.integer) value = wrap_to(operation.value.integer, spec.dtype);
  return out;
}

HostTensor arange(const op::Arange& operation, const TensorSpec& spec) {
  HostTensor out(spec);
  for (std::int64_t i = 0; i < out.size(); ++i) {
    if (out.is_real()) {
      out.r(i) = operation.start.real + static_cast<double>(i) * operation.step.real;
    } else {
      out.n(i) = wrap_to(operation.start.integer + i * operation.step.integer, spec.dtype);
    }
  }
  return out;
}

HostTensor random_bits(const HostTensor& key, const TensorSpec& spec) {
  // Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
  const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
  const auto high = [](std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); };
  HostTensor out(spec);
  for (std::int64_t i = 0; i < out.size(); ++i) {
    const auto block = static_cast<std::uint64_t>(i / 4);
    std::array<std::uint32_t, 4> c = {low(block), high(block), 0, 0};
    std::array<std::uint32_t, 2> k = {low(bits(key.n(0))), low(bits(key.n(1)))};
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = 0xD2511F53ull * c[0];
      const std::uint64_t p1 = 0xCD9E8D57ull * c[2];
      c = {high(p1) ^ c[1] ^ k[0], low(p1), high(p0) ^ c[3] ^ k[1], low(p0)};
      k[0] += 0x9E3779B9u;
      k[1] += 0xBB67AE85u;
    }
    out.n(i) = c[static_cast<std::size_t>(i % 4)];
  }
  return out;
}

}  // namespace metal_candle::testing::reference
