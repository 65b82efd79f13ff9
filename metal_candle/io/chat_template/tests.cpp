// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/tests.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "metal_candle/io/chat_template/access.h"
#include "metal_candle/io/chat_template/arithmetic.h"
#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/filters.h"
#include "metal_candle/io/chat_template/loop.h"
#include "metal_candle/io/chat_template/parameters.h"
#include "metal_candle/io/chat_template/text.h"

namespace metal_candle::jinja {
namespace {

template <bool (*predicate)(const Value&)>
bool of_value(Runtime& /*runtime*/, const Value& value, CallArguments&& arguments) {
  const Parameters none("test", std::move(arguments), {});
  return predicate(value);
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_undefined(const Value& value) { return value.is_undefined(); }
bool is_none(const Value& value) { return value.is_none(); }
bool is_boolean(const Value& value) { return value.if_bool() != nullptr; }
bool is_exactly_true(const Value& value) { return value.if_bool() != nullptr && *value.if_bool(); }
bool is_exactly_false(const Value& value) {
  return value.if_bool() != nullptr && !*value.if_bool();
}
bool is_plain_integer(const Value& value) {
  return value.is_integer() && value.if_bool() == nullptr;
}
bool is_float(const Value& value) { return value.if_float() != nullptr; }
bool is_any_number(const Value& value) { return value.is_number(); }
bool is_string(const Value& value) { return value.if_text() != nullptr; }
bool is_escaped(const Value& value) { return value.if_text() != nullptr && value.if_text()->safe; }
bool is_mapping(const Value& value) { return value.if_dict() != nullptr; }
bool can_iterate(const Value& value) {
  return is_iterable(value) || value.if_object<Loop>() != nullptr;
}
bool is_callable(const Value& value) {
  return value.is_undefined() || value.if_object<Callable>() != nullptr ||
         value.if_object<Loop>() != nullptr;
}

// Has a length and takes an index.
bool is_sequence(const Value& value) {
  const Sequence* sequence = value.if_sequence();
  return (sequence != nullptr && sequence->kind <= Sequence::Kind::kRange) ||
         value.if_dict() != nullptr || value.if_text() != nullptr || value.is_undefined();
}

template <Letters letters>
bool is_in_case(Runtime& runtime, const Value& value, CallArguments&& arguments) {
  const Parameters none("test", std::move(arguments), {});
  return has_case(to_text(value, runtime.budget), letters);
}

bool has_remainder(Runtime& runtime, const Value& value, const Value& divisor,
                   std::int64_t remainder) {
  return is_equal(apply_binary(runtime, "%", value, divisor), Value(remainder), runtime.budget);
}

bool is_odd(Runtime& runtime, const Value& value, CallArguments&& arguments) {
  const Parameters none("odd", std::move(arguments), {});
  return has_remainder(runtime, value, Value(std::int64_t{2}), 1);
}

bool is_even(Runtime& runtime, const Value& value, CallArguments&& arguments) {
  const Parameters none("even", std::move(arguments), {});
  return has_remainder(runtime, value, Value(std::int64_t{2}), 0);
}

bool is_divisible(Runtime& runtime, const Value& value, CallArguments&& arguments) {
  const Parameters given("divisibleby", std::move(arguments), {"num"}, 1);
  return has_remainder(runtime, value, given[0], 0);
}

bool is_in(Runtime& runtime, const Value& value, CallArguments&& arguments) {
  const Parameters given("in", std::move(arguments), {"seq"}, 1);
  return contains(runtime, given[0], value);
}

// Identity is not kept for values that are copied, so only the singletons can be told.
bool is_same(Runtime& /*runtime*/, const Value& value, CallArguments&& arguments) {
  const Parameters given("sameas", std::move(arguments), {"other"}, 1);
  const Value& other = given[0];
  if (other.is_none() || value.is_none()) return other.is_none() && value.is_none();
  if (other.if_bool() != nullptr || value.if_bool() != nullptr) {
    return other.if_bool() != nullptr && value.if_bool() != nullptr &&
           *other.if_bool() == *value.if_bool();
  }
  throw Failure("the test 'sameas' is supported for true, false and none only");
}

bool names_filter(Runtime& /*runtime*/, const Value& value, CallArguments&& /*arguments*/) {
  return value.if_text() != nullptr && find_filter(value.bytes()) != nullptr;
}

bool names_test(Runtime& /*runtime*/, const Value& value, CallArguments&& /*arguments*/) {
  return value.if_text() != nullptr && find_test(value.bytes()) != nullptr;
}

struct Operator {
  static constexpr const char* kNames[] = {"==", "!=", "<", "<=", ">", ">="};
};

template <std::size_t index>
bool compares(Runtime& runtime, const Value& value, CallArguments&& arguments) {
  const Parameters given(Operator::kNames[index], std::move(arguments), {"other"}, 1);
  return apply_comparison(runtime, Operator::kNames[index], value, given[0]);
}

struct Entry {
  std::string_view name;
  TestFunction function;
};

constexpr std::array<Entry, 39> kTests = {{
    {"boolean", of_value<is_boolean>},
    {"callable", of_value<is_callable>},
    {"defined", of_value<is_defined>},
    {"divisibleby", is_divisible},
    {"eq", compares<0>},
    {"equalto", compares<0>},
    {"escaped", of_value<is_escaped>},
    {"even", is_even},
    {"false", of_value<is_exactly_false>},
    {"filter", names_filter},
    {"float", of_value<is_float>},
    {"ge", compares<5>},
    {"greaterthan", compares<4>},
    {"gt", compares<4>},
    {"in", is_in},
    {"integer", of_value<is_plain_integer>},
    {"iterable", of_value<can_iterate>},
    {"le", compares<3>},
    {"lessthan", compares<2>},
    {"lower", is_in_case<Letters::kLower>},
    {"lt", compares<2>},
    {"mapping", of_value<is_mapping>},
    {"ne", compares<1>},
    {"none", of_value<is_none>},
    {"number", of_value<is_any_number>},
    {"odd", is_odd},
    {"sameas", is_same},
    {"sequence", of_value<is_sequence>},
    {"string", of_value<is_string>},
    {"test", names_test},
    {"true", of_value<is_exactly_true>},
    {"undefined", of_value<is_undefined>},
    {"upper", is_in_case<Letters::kUpper>},
    // Their names as operators are for `select` and its like.
    {"==", compares<0>},
    {"!=", compares<1>},
    {"<", compares<2>},
    {"<=", compares<3>},
    {">", compares<4>},
    {">=", compares<5>},
}};

}  // namespace

TestFunction find_test(std::string_view name) {
  const auto* entry = std::find_if(kTests.begin(), kTests.end(),
                                   [&](const Entry& each) { return each.name == name; });
  return entry == kTests.end() ? nullptr : entry->function;
}

bool apply_test(Runtime& runtime, std::string_view name, const Value& input,
                CallArguments&& arguments) {
  const TestFunction test = find_test(name);
  if (test == nullptr) throw Failure(fmt::format("the test '{}' is not supported", name));
  return test(runtime, input, std::move(arguments));
}

bool apply_comparison(Runtime& runtime, std::string_view operation, const Value& left,
                      const Value& right) {
  if (operation == "==") return is_equal(left, right, runtime.budget);
  if (operation == "!=") return !is_equal(left, right, runtime.budget);
  const bool both_numbers = left.is_number() && right.is_number();
  if (both_numbers && (std::isnan(left.number()) || std::isnan(right.number()))) return false;
  const int order = compare(left, right, runtime.budget);
  if (operation == "<") return order < 0;
  if (operation == "<=") return order <= 0;
  if (operation == ">") return order > 0;
  return order >= 0;
}

}  // namespace metal_candle::jinja
