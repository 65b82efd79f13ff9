// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/arithmetic.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "metal_candle/io/chat_template/failure.h"

namespace metal_candle::jinja {
namespace {

[[noreturn]] void fail_overflow() { throw Failure("an integer is beyond 64 bits"); }

[[noreturn]] void refuse(std::string_view operation, const Value& left, const Value& right) {
  for (const Value* operand : {&left, &right}) {
    if (operand->is_undefined()) throw Failure(operand->reason());
  }
  throw Failure(
      fmt::format("'{}' does not take {} and {}", operation, left.described(), right.described()));
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (a == INT64_MIN && b == -1) fail_overflow();
  const std::int64_t quotient = a / b;
  return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

std::int64_t multiply(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) fail_overflow();
  return result;
}

std::int64_t power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0) result = multiply(result, base);
    exponent >>= 1;
    if (exponent > 0) base = multiply(base, base);
  }
  return result;
}

Value integer_result(std::string_view operation, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  if (operation == "+") {
    if (__builtin_add_overflow(a, b, &result)) fail_overflow();
    return Value(result);
  }
  if (operation == "-") {
    if (__builtin_sub_overflow(a, b, &result)) fail_overflow();
    return Value(result);
  }
  if (operation == "*") return Value(multiply(a, b));
  if (operation == "//") return Value(floor_divide(a, b));
  if (operation == "%") {
    return Value(b == -1 ? std::int64_t{0} : a - floor_divide(a, b) * b);
  }
  if (operation == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
  if (b < 0) return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
  return Value(power(a, b));
}

// The remainder has the sign of the divisor, and the quotient is what fits it.
std::pair<double, double> float_divmod(double a, double b) {
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0) {
    if ((b < 0) != (remainder < 0)) {
      remainder += b;
      quotient -= 1;
    }
  } else {
    remainder = std::copysign(0.0, b);
  }
  return {quotient == 0 ? std::copysign(0.0, a / b) : std::round(quotient), remainder};
}

Value float_result(std::string_view operation, double a, double b) {
  if (operation == "+") return Value(a + b);
  if (operation == "-") return Value(a - b);
  if (operation == "*") return Value(a * b);
  if (operation == "/") return Value(a / b);
  if (operation == "//") return Value(float_divmod(a, b).first);
  if (operation == "%") return Value(float_divmod(a, b).second);
  const double result = std::pow(a, b);
  if (std::isnan(result) && !std::isnan(a) && !std::isnan(b)) {
    throw Failure("the power is a complex number");
  }
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
    throw Failure("the power is too large");
  }
  return Value(result);
}

Value number_result(std::string_view operation, const Value& left, const Value& right) {
  const bool divides = operation == "/" || operation == "//" || operation == "%";
  if (divides && right.number() == 0) throw Failure("division by zero");
  if (operation == "**" && left.number() == 0 && right.number() < 0) {
    throw Failure("zero to a negative power");
  }
  if (left.is_integer() && right.is_integer()) {
    return integer_result(operation, left.integer(), right.integer());
  }
  return float_result(operation, left.number(), right.number());
}

// Two strings, two lists or two tuples after each other.
Value join(Runtime& runtime, const Value& left, const Value& right) {
  if (left.if_text() != nullptr && right.if_text() != nullptr) {
    if (left.if_text()->safe || right.if_text()->safe) refuse("+", left, right);
    return runtime.text(left.bytes() + right.bytes());
  }
  const Sequence* a = left.if_sequence();
  const Sequence* b = right.if_sequence();
  if (a == nullptr || b == nullptr || a->kind != b->kind || a->kind > Sequence::Kind::kTuple) {
    refuse("+", left, right);
  }
  std::vector<Value> elements = a->elements;
  elements.insert(elements.end(), b->elements.begin(), b->elements.end());
  runtime.budget.spend(elements.size() * sizeof(Value));
  return Value::sequence(a->kind, std::move(elements));
}

Value repeat(Runtime& runtime, const Value& value, std::int64_t times) {
  const auto count = static_cast<std::uint64_t>(std::max<std::int64_t>(times, 0));
  const auto spend = [&](std::uint64_t size) {
    if (size > 0 && count > Budget::kLimit / size) runtime.budget.spend(Budget::kLimit + 1);
    runtime.budget.spend(size * count);
  };
  if (const Text* text = value.if_text()) {
    spend(text->bytes.size());
    std::string out;
    out.reserve(text->bytes.size() * count);
    if (!text->bytes.empty()) {
      for (std::uint64_t i = 0; i < count; ++i) out += text->bytes;
    }
    return Value(std::move(out));
  }
  const Sequence& sequence = *value.if_sequence();
  spend(sequence.elements.size() * sizeof(Value));
  std::vector<Value> elements;
  elements.reserve(sequence.elements.size() * count);
  if (!sequence.elements.empty()) {
    for (std::uint64_t i = 0; i < count; ++i) {
      elements.insert(elements.end(), sequence.elements.begin(), sequence.elements.end());
    }
  }
  return Value::sequence(sequence.kind, std::move(elements));
}

bool can_repeat(const Value& value) {
  if (const Text* text = value.if_text()) return !text->safe;
  const Sequence* sequence = value.if_sequence();
  return sequence != nullptr && sequence->kind <= Sequence::Kind::kTuple;
}

}  // namespace

Value apply_binary(Runtime& runtime, std::string_view operation, const Value& left,
                   const Value& right) {
  if (left.is_number() && right.is_number()) return number_result(operation, left, right);
  if (operation == "+") return join(runtime, left, right);
  if (operation == "*") {
    if (can_repeat(left) && right.is_integer()) return repeat(runtime, left, right.integer());
    if (left.is_integer() && can_repeat(right)) return repeat(runtime, right, left.integer());
  }
  refuse(operation, left, right);
}

Value apply_sign(char sign, const Value& value) {
  if (value.is_undefined()) throw Failure(value.reason());
  if (!value.is_number()) {
    throw Failure(fmt::format("'{}' does not take {}", sign, value.described()));
  }
  if (!value.is_integer()) return Value(sign == '-' ? -value.number() : value.number());
  if (sign == '+') return Value(value.integer());
  if (value.integer() == INT64_MIN) fail_overflow();
  return Value(-value.integer());
}

}  // namespace metal_candle::jinja
