// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The filters that take or make several values.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "metal_candle/io/chat_template/access.h"
#include "metal_candle/io/chat_template/arithmetic.h"
#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/filters.h"
#include "metal_candle/io/chat_template/parameters.h"
#include "metal_candle/io/chat_template/tests.h"
#include "metal_candle/io/chat_template/text.h"

namespace metal_candle::jinja {
namespace {

const Value kNone;

const Value& or_none(const Value* value) { return value == nullptr ? kNone : *value; }

Value ignore_case(Runtime& runtime, Value value) {
  if (value.if_text() == nullptr) return value;
  return runtime.text(change_case(value.bytes(), Letters::kLower));
}

Value list_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("list", std::move(arguments), {});
  return Value::list(elements_of(input, runtime.budget));
}

Value first_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("first", std::move(arguments), {});
  Iterator iterator(input, runtime.budget);
  auto first = iterator.next();
  return first ? *std::move(first) : Value::undefined("no first item, the sequence is empty");
}

Value last_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("last", std::move(arguments), {});
  if (input.if_object() != nullptr) {
    throw Failure(fmt::format("{} cannot be reversed", input.described()));
  }
  const auto elements = elements_of(input, runtime.budget);
  return elements.empty() ? Value::undefined("no last item, the sequence is empty")
                          : elements.back();
}

Value reverse_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("reverse", std::move(arguments), {});
  if (input.if_text() != nullptr) {
    return get_slice(runtime, input, Value(), Value(), Value(std::int64_t{-1}));
  }
  auto elements = elements_of(input, runtime.budget);
  std::reverse(elements.begin(), elements.end());
  // Generators alone are gone through first, so what they give is a list.
  if (input.if_object() != nullptr) return Value::list(std::move(elements));
  return make_generator(std::move(elements));
}

Value join_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters given("join", std::move(arguments), {"d", "attribute"});
  const std::string separator =
      given.find(0) != nullptr ? to_text(given[0], runtime.budget) : std::string();
  std::string out;
  bool is_first = true;
  Iterator iterator(input, runtime.budget);
  while (const auto element = iterator.next()) {
    if (!is_first) out += separator;
    const std::string text =
        to_text(get_path(runtime, *element, or_none(given.find(1))), runtime.budget);
    runtime.budget.spend(separator.size() + text.size());
    out += text;
    is_first = false;
  }
  return runtime.text(std::move(out));
}

// Values with the keys by which they are ordered.
using Keyed = std::vector<std::pair<Value, Value>>;

void sort_by_key(Runtime& runtime, Keyed& values, bool reverse) {
  std::stable_sort(values.begin(), values.end(), [&](const auto& a, const auto& b) {
    const int order = compare(a.first, b.first, runtime.budget);
    runtime.budget.step();
    return reverse ? order > 0 : order < 0;
  });
}

Value list_of_values(Keyed&& values) {
  std::vector<Value> elements;
  elements.reserve(values.size());
  for (auto& [key, value] : values) elements.push_back(std::move(value));
  return Value::list(std::move(elements));
}

Value sort_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters given("sort", std::move(arguments), {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = given.flag(1, false);
  // "a,b" orders by a, then by b.
  std::vector<Value> paths = {or_none(given.find(2))};
  if (paths.front().if_text() != nullptr) {
    const std::string text = paths.front().bytes();
    paths.clear();
    for (const auto path : split(text, ",", -1, false)) paths.emplace_back(path);
  }
  Keyed values;
  for (const Value& element : elements_of(input, runtime.budget)) {
    std::vector<Value> key;
    for (const Value& path : paths) {
      Value part = get_path(runtime, element, path);
      key.push_back(case_sensitive ? std::move(part) : ignore_case(runtime, std::move(part)));
    }
    values.emplace_back(Value::list(std::move(key)), element);
  }
  sort_by_key(runtime, values, given.flag(0, false));
  return list_of_values(std::move(values));
}

Value dictsort_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters given("dictsort", std::move(arguments), {"case_sensitive", "by", "reverse"});
  const bool case_sensitive = given.flag(0, false);
  const std::string by = given.text(1, "key");
  if (by != "key" && by != "value") throw Failure("'dictsort' sorts by 'key' or by 'value'");
  if (input.if_dict() == nullptr) {
    throw Failure(fmt::format("'dictsort' takes a dict, not {}", input.described()));
  }
  Keyed values;
  for (const auto& [key, value] : input.if_dict()->items()) {
    runtime.budget.step();
    const Value& part = by == "key" ? key : value;
    values.emplace_back(case_sensitive ? part : ignore_case(runtime, part),
                        Value::tuple({key, value}));
  }
  sort_by_key(runtime, values, given.flag(2, false));
  return list_of_values(std::move(values));
}

Value extreme(Runtime& runtime, const char* name, bool is_max, const Value& input,
              CallArguments&& arguments) {
  const Parameters given(name, std::move(arguments), {"case_sensitive", "attribute"});
  const bool case_sensitive = given.flag(0, false);
  Value best = Value::undefined("no aggregated item, the sequence is empty");
  Value best_key;
  bool is_first = true;
  for (const Value& element : elements_of(input, runtime.budget)) {
    Value key = get_path(runtime, element, or_none(given.find(1)));
    if (!case_sensitive) key = ignore_case(runtime, std::move(key));
    if (!is_first) {
      const int order = compare(key, best_key, runtime.budget);
      if (is_max ? order <= 0 : order >= 0) continue;
    }
    best = element;
    best_key = std::move(key);
    is_first = false;
  }
  return best;
}

Value min_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  return extreme(runtime, "min", false, input, std::move(arguments));
}

Value max_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  return extreme(runtime, "max", true, input, std::move(arguments));
}

Value sum_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters given("sum", std::move(arguments), {"attribute", "start"});
  Value sum = given.find(1) != nullptr ? given[1] : Value(std::int64_t{0});
  if (sum.if_text() != nullptr) throw Failure("'sum' does not take strings: use 'join'");
  Iterator iterator(input, runtime.budget);
  while (const auto element = iterator.next()) {
    runtime.budget.step();
    sum = apply_binary(runtime, "+", sum, get_path(runtime, *element, or_none(given.find(0))));
  }
  return sum;
}

Value unique_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters given("unique", std::move(arguments), {"case_sensitive", "attribute"});
  const bool case_sensitive = given.flag(0, false);
  std::vector<Value> keys;
  std::vector<Value> elements;
  for (const Value& element : elements_of(input, runtime.budget)) {
    Value key = get_path(runtime, element, or_none(given.find(1)));
    if (key.if_sequence() != nullptr || key.if_dict() != nullptr) {
      throw Failure(fmt::format("'unique' does not take {}", key.described()));
    }
    if (!case_sensitive) key = ignore_case(runtime, std::move(key));
    const bool is_known = std::any_of(keys.begin(), keys.end(), [&](const Value& known) {
      return is_equal(known, key, runtime.budget);
    });
    if (is_known) continue;
    keys.push_back(std::move(key));
    elements.push_back(element);
  }
  return make_generator(std::move(elements));
}

Value items_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  const Parameters none("items", std::move(arguments), {});
  if (input.is_undefined()) return make_generator({});
  if (input.if_dict() == nullptr) {
    throw Failure(fmt::format("'items' takes a dict, not {}", input.described()));
  }
  std::vector<Value> elements;
  for (const auto& [key, value] : input.if_dict()->items()) {
    runtime.budget.step();
    elements.push_back(Value::tuple({key, value}));
  }
  return make_generator(std::move(elements));
}

// The first argument, which is removed; throws `message` when it is not a name.
std::string take_name(CallArguments& arguments, const char* message) {
  if (arguments.positional.empty() || arguments.positional.front().if_text() == nullptr) {
    throw Failure(message);
  }
  std::string name = arguments.positional.front().bytes();
  arguments.positional.erase(arguments.positional.begin());
  return name;
}

// map(attribute=path, default=value), or map(filter, arguments of the filter).
Value map_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  if (!is_true(input)) return make_generator({});
  const bool by_attribute =
      arguments.positional.empty() &&
      std::any_of(arguments.named.begin(), arguments.named.end(),
                  [](const auto& argument) { return argument.first == "attribute"; });
  if (by_attribute) {
    const Parameters given("map", std::move(arguments), {"attribute", "default"});
    // A default of none is as no default.
    return make_generator(
        input, runtime.budget,
        [&runtime, path = given[0], fallback = or_none(given.find(1))](const Value& element) {
          return get_path(runtime, element, path, fallback.is_none() ? nullptr : &fallback);
        });
  }
  const std::string name = take_name(arguments, "'map' needs the name of a filter, or attribute=");
  return make_generator(input, runtime.budget, [&runtime, name, arguments](const Value& element) {
    return apply_filter(runtime, name, element, CallArguments(arguments));
  });
}

// select(test, arguments) and selectattr(path, test, arguments); without a test, what is true.
Value choose(Runtime& runtime, const Value& input, CallArguments&& arguments, bool by_attribute,
             bool wanted) {
  if (!is_true(input)) return make_generator({});
  Value path;
  if (by_attribute) {
    if (arguments.positional.empty()) throw Failure("the name of an attribute is missing");
    path = arguments.positional.front();
    arguments.positional.erase(arguments.positional.begin());
  }
  std::string test;
  if (!arguments.positional.empty()) {
    test = take_name(arguments, "the name of a test is not a string");
  }
  return make_generator(
      input, runtime.budget,
      [&runtime, path, test, arguments, wanted](const Value& element) -> std::optional<Value> {
        const Value value = get_path(runtime, element, path);
        const bool passes = test.empty()
                                ? is_true(value)
                                : apply_test(runtime, test, value, CallArguments(arguments));
        return passes == wanted ? std::optional<Value>(element) : std::nullopt;
      });
}

template <bool by_attribute, bool wanted>
Value choose_filter(Runtime& runtime, const Value& input, CallArguments&& arguments) {
  return choose(runtime, input, std::move(arguments), by_attribute, wanted);
}

struct Entry {
  std::string_view name;
  FilterFunction function;
};

constexpr std::array<Entry, 17> kFilters = {{
    {"dictsort", dictsort_filter},
    {"first", first_filter},
    {"items", items_filter},
    {"join", join_filter},
    {"last", last_filter},
    {"list", list_filter},
    {"map", map_filter},
    {"max", max_filter},
    {"min", min_filter},
    {"reject", choose_filter<false, false>},
    {"rejectattr", choose_filter<true, false>},
    {"reverse", reverse_filter},
    {"select", choose_filter<false, true>},
    {"selectattr", choose_filter<true, true>},
    {"sort", sort_filter},
    {"sum", sum_filter},
    {"unique", unique_filter},
}};

}  // namespace

FilterFunction find_sequence_filter(std::string_view name) {
  const auto* entry = std::find_if(kFilters.begin(), kFilters.end(),
                                   [&](const Entry& each) { return each.name == name; });
  return entry == kFilters.end() ? nullptr : entry->function;
}

}  // namespace metal_candle::jinja
