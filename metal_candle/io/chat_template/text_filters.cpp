// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The filters that make text.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/filters.h"
#include "metal_candle/io/chat_template/json.h"
#include "metal_candle/io/chat_template/parameters.h"
#include "metal_candle/io/chat_template/text.h"
#include "metal_candle/io/chat_template/text_functions.h"

namespace metal_candle::jinja {
namespace {

Value safe_text(Runtime& runtime, std::string text) {
  runtime.budget.spend(text.size());
  return Value(std::make_shared<const Text>(std::move(text), true));
}

Value capitalize_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("capitalize", std::move(arguments), {});
  return runtime.text(capitalize(to_text(input, runtime.budget)));
}

Value upper_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("upper", std::move(arguments), {});
  return runtime.text(change_case(to_text(input, runtime.budget), Letters::kUpper));
}

Value lower_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("lower", std::move(arguments), {});
  return runtime.text(change_case(to_text(input, runtime.budget), Letters::kLower));
}

// Words begin after white space, hyphens and opening brackets; an apostrophe is part of one.
Value title_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("title", std::move(arguments), {});
  const std::string text = to_text(input, runtime.budget);
  std::string out;
  bool begins = true;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t start = i;
    const char32_t c = next_code_point(text, i);
    const auto letter = std::string_view(text).substr(start, i - start);
    out += change_case(letter, begins ? Letters::kUpper : Letters::kLower);
    begins = is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  }
  return runtime.text(std::move(out));
}

Value trim_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters given("trim", std::move(arguments), {"chars"});
  const std::string text = to_text(input, runtime.budget);
  const Value* characters = given.find(0);
  const bool any_space = characters == nullptr || characters->is_none();
  std::string result(any_space ? strip(text, Side::kBoth)
                               : strip(text, given.text(0), Side::kBoth));
  const bool is_safe = input.if_text() != nullptr && input.if_text()->safe;
  return is_safe ? safe_text(runtime, std::move(result)) : runtime.text(std::move(result));
}

Value replace_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters given("replace", std::move(arguments), {"old", "new", "count"}, 2);
  const Value* count = given.find(2);
  const std::int64_t limit = count == nullptr || count->is_none() ? -1 : given.integer(2, -1);
  return replace_text(runtime, Text(to_text(input, runtime.budget)),
                      to_text(given[0], runtime.budget), to_text(given[1], runtime.budget), limit);
}

// Text of `width` spaces, or the text that `width` is.
std::string indentation(Runtime& runtime, const Value& width) {
  if (width.if_text() != nullptr) return width.bytes();
  if (!width.is_integer()) {
    throw Failure(
        fmt::format("an indentation is a number of spaces or a string, not {}", width.described()));
  }
  const auto spaces = static_cast<std::size_t>(std::max<std::int64_t>(width.integer(), 0));
  runtime.budget.spend(spaces);
  return std::string(spaces, ' ');
}

Value indent_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters given("indent", std::move(arguments), {"width", "first", "blank"});
  if (input.is_undefined()) throw Failure(input.reason());
  if (input.if_text() == nullptr) {
    throw Failure(fmt::format("'indent' takes a string, not {}", input.described()));
  }
  const std::string space =
      given.find(0) != nullptr ? indentation(runtime, given[0]) : std::string(4, ' ');
  const bool first = given.flag(1, false);
  const bool blank = given.flag(2, false);
  runtime.budget.spend(input.bytes().size());
  // The line break makes the last line count even when it is empty.
  const std::string text = input.bytes() + "\n";
  std::string out;
  bool is_first = true;
  for (const auto line : split_lines(text, false)) {
    runtime.budget.spend(space.size() + line.size());
    if (!is_first) out += '\n';
    if (is_first ? first : blank || !line.empty()) out += space;
    out += line;
    is_first = false;
  }
  return runtime.text(std::move(out));
}

Value string_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("string", std::move(arguments), {});
  return input.if_text() != nullptr ? input : runtime.text(to_text(input, runtime.budget));
}

Value safe_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("safe", std::move(arguments), {});
  return safe_text(runtime, to_text(input, runtime.budget));
}

Value escape_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("escape", std::move(arguments), {});
  if (input.if_text() != nullptr && input.if_text()->safe) return input;
  std::string out;
  for (const char c : to_text(input, runtime.budget)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return safe_text(runtime, std::move(out));
}

// As Hugging Face defines it, which is not Jinja's own: HTML is not escaped.
Value tojson_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters given("tojson", std::move(arguments),
                         {"ensure_ascii", "indent", "separators", "sort_keys"});
  const auto is_given = [&](std::size_t i) {
    return given.find(i) != nullptr && !given[i].is_none();
  };
  JsonStyle style;
  style.ensure_ascii = given.flag(0, false);
  style.sort_keys = given.flag(3, false);
  if (is_given(1)) {
    style.indent = indentation(runtime, given[1]);
    style.item_separator.assign(1, ',');
  }
  if (is_given(2)) {
    const Sequence* pair = given[2].if_sequence();
    if (pair == nullptr || pair->elements.size() != 2 || pair->elements[0].if_text() == nullptr ||
        pair->elements[1].if_text() == nullptr) {
      throw Failure("the separators of 'tojson' are two strings");
    }
    style.item_separator = pair->elements[0].bytes();
    style.key_separator = pair->elements[1].bytes();
  }
  return runtime.text(to_json(input, style, runtime.budget));
}

struct Entry {
  std::string_view name;
  FilterFunction function;
};

constexpr std::array<Entry, 12> kFilters = {{
    {"capitalize", capitalize_filter},
    {"e", escape_filter},
    {"escape", escape_filter},
    {"indent", indent_filter},
    {"lower", lower_filter},
    {"replace", replace_filter},
    {"safe", safe_filter},
    {"string", string_filter},
    {"title", title_filter},
    {"tojson", tojson_filter},
    {"trim", trim_filter},
    {"upper", upper_filter},
}};

}  // namespace

FilterFunction find_text_filter(std::string_view name) {
  const auto* entry = std::find_if(kFilters.begin(), kFilters.end(),
                                   [&](const Entry& each) { return each.name == name; });
  return entry == kFilters.end() ? nullptr : entry->function;
}

}  // namespace metal_candle::jinja
