// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/filters.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <utility>

#include "metal_candle/io/chat_template/access.h"
#include "metal_candle/io/chat_template/arithmetic.h"
#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/parameters.h"
#include "metal_candle/io/chat_template/text.h"

namespace metal_candle::jinja {
namespace {

Value default_filter(Runtime& /*runtime*/, const Value& input, CallArguments&& arguments) {
  const Parameters given("default", std::move(arguments), {"default_value", "boolean"});
  const bool replaces = input.is_undefined() || (given.flag(1, false) && !is_true(input));
  if (!replaces) return input;
  return given.find(0) != nullptr ? given[0] : Value("");
}

Value length_filter(Runtime& /*runtime*/, const Value& input, CallArguments&& arguments) {
  const Parameters none("length", std::move(arguments), {});
  return Value(static_cast<std::int64_t>(length_of(input)));
}

[[noreturn]] void refuse_number(std::string_view filter, const Value& input) {
  if (input.is_undefined()) throw Failure(input.reason());
  throw Failure(fmt::format("'{}' takes a number, not {}", filter, input.described()));
}

Value abs_filter(Runtime& /*runtime*/, const Value& input, CallArguments&& arguments) {
  const Parameters none("abs", std::move(arguments), {});
  if (!input.is_number()) refuse_number("abs", input);
  return apply_sign(input.number() < 0 ? '-' : '+', input);
}

// The number that a text is, with Python's white space, sign and underscores around it.
template <typename T>
std::optional<T> parse_number(std::string_view text) {
  text = strip(text, Side::kBoth);
  if (text.starts_with('+') && !text.substr(1).starts_with('-')) text.remove_prefix(1);
  std::string digits;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto is_digit = [&](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '9';
    };
    if (text[i] == '_' && i > 0 && is_digit(i - 1) && is_digit(i + 1)) continue;
    digits += text[i];
  }
  T number{};
  const char* end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, number);
  if (result.ptr != end || digits.empty()) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) throw Failure("a number is out of range");
  return result.ec == std::errc() ? std::optional<T>(number) : std::nullopt;
}

std::optional<Value> truncate(double number) {
  if (std::isnan(number)) return std::nullopt;
  if (std::fabs(number) >= 9.2e18) throw Failure("an integer is beyond 64 bits");
  return Value(static_cast<std::int64_t>(number));
}

Value int_filter(Runtime& /*runtime*/, const Value& input, CallArguments&& arguments) {
  const Parameters given("int", std::move(arguments), {"default", "base"});
  if (given.integer(1, 10) != 10) throw Failure("'int' of another base is not supported");
  if (input.is_undefined()) throw Failure(input.reason());
  std::optional<Value> result;
  if (input.is_integer()) {
    result = Value(input.integer());
  } else if (input.is_number()) {
    result = truncate(input.number());
  } else if (input.if_text() != nullptr) {
    if (const auto integer = parse_number<std::int64_t>(input.bytes())) return Value(*integer);
    const auto number = parse_number<double>(input.bytes());
    if (number && std::isfinite(*number)) result = truncate(*number);
  }
  if (result) return *std::move(result);
  return given.find(0) != nullptr ? given[0] : Value(std::int64_t{0});
}

Value float_filter(Runtime& /*runtime*/, const Value& input, CallArguments&& arguments) {
  const Parameters given("float", std::move(arguments), {"default"});
  if (input.is_undefined()) throw Failure(input.reason());
  if (input.is_number()) return Value(input.number());
  if (input.if_text() != nullptr) {
    if (const auto number = parse_number<double>(input.bytes())) return Value(*number);
  }
  return given.find(0) != nullptr ? given[0] : Value(0.0);
}

Value round_filter(Runtime& /*runtime*/, const Value& input, CallArguments&& arguments) {
  const Parameters given("round", std::move(arguments), {"precision", "method"});
  const std::int64_t precision = given.integer(0, 0);
  const std::string method = given.text(1, "common");
  if (!input.is_number()) refuse_number("round", input);
  if (precision < 0) throw Failure("'round' to a negative precision is not supported");
  const double number = input.number();
  // Beyond this, every double is its own rounding.
  constexpr std::int64_t kMostDigits = 300;
  if (method == "common") {
    if (input.is_integer()) return Value(input.integer());
    if (!std::isfinite(number) || precision > kMostDigits) return input;
    // The printed decimals are those of the exact binary number, as Python rounds it.
    return Value(std::strtod(fmt::format("{:.{}f}", number, precision).c_str(), nullptr));
  }
  if (method != "ceil" && method != "floor") {
    throw Failure("the method of 'round' is 'common', 'ceil' or 'floor'");
  }
  const double scale = std::pow(10.0, static_cast<double>(std::min(precision, kMostDigits)));
  return Value((method == "ceil" ? std::ceil(number * scale) : std::floor(number * scale)) / scale);
}

struct Entry {
  std::string_view name;
  FilterFunction function;
};

constexpr std::array<Entry, 8> kFilters = {{
    {"abs", abs_filter},
    {"count", length_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"float", float_filter},
    {"int", int_filter},
    {"length", length_filter},
    {"round", round_filter},
}};

// Marked text stays marked through many filters in Jinja, and escapes what it meets. Only what a
// chat template could want of it is supported.
bool takes_safe_text(std::string_view name) {
  static constexpr std::array<std::string_view, 10> kNames = {
      "count", "d", "default", "e", "escape", "length", "safe", "string", "tojson", "trim"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

}  // namespace

FilterFunction find_filter(std::string_view name) {
  const auto* entry = std::find_if(kFilters.begin(), kFilters.end(),
                                   [&](const Entry& each) { return each.name == name; });
  if (entry != kFilters.end()) return entry->function;
  if (const FilterFunction filter = find_text_filter(name)) return filter;
  return find_sequence_filter(name);
}

Value apply_filter(Runtime& runtime, std::string_view name, const Value& input,
                   CallArguments&& arguments) {
  const FilterFunction filter = find_filter(name);
  if (filter == nullptr) throw Failure(fmt::format("the filter '{}' is not supported", name));
  if (input.if_text() != nullptr && input.if_text()->safe && !takes_safe_text(name)) {
    throw Failure(fmt::format("the filter '{}' of a safe string is not supported", name));
  }
  return filter(runtime, input, std::move(arguments));
}

}  // namespace metal_candle::jinja
