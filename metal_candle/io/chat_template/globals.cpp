// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/globals.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <ctime>
#include <utility>

#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/parameters.h"
#include "metal_candle/io/chat_template/text.h"

namespace metal_candle::jinja {
namespace {

// Jinja's sandbox makes no longer ones.
constexpr std::int64_t kMaxRange = 100000;

Value range(Runtime& runtime, CallArguments&& arguments) {
  const std::size_t count = arguments.positional.size();
  const Parameters given("range", std::move(arguments), {"start", "stop", "step"}, 1);
  const std::int64_t start = count == 1 ? 0 : given.integer(0, 0);
  const std::int64_t stop = count == 1 ? given.integer(0, 0) : given.integer(1, 0);
  const std::int64_t step = given.integer(2, 1);
  if (step == 0) throw Failure("the step of 'range' is zero");
  std::vector<Value> elements;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (elements.size() == kMaxRange) {
      throw Failure(fmt::format("'range' makes more than {} numbers", kMaxRange));
    }
    elements.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  runtime.budget.spend(elements.size() * sizeof(Value));
  return Value::sequence(Sequence::Kind::kRange, std::move(elements));
}

// The items that dict() and namespace() take: of a dict, of pairs, and of named arguments.
std::vector<std::pair<Value, Value>> collect_items(Runtime& runtime, std::string_view function,
                                                   CallArguments&& arguments) {
  std::vector<std::pair<Value, Value>> items;
  if (arguments.positional.size() > 1) {
    throw Failure(fmt::format("'{}' takes no more than one argument without a name", function));
  }
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional.front();
    if (const Dict* dict = source.if_dict()) {
      items = dict->items();
    } else {
      for (const Value& pair : elements_of(source, runtime.budget)) {
        auto parts = elements_of(pair, runtime.budget);
        if (parts.size() != 2) throw Failure(fmt::format("'{}' takes pairs", function));
        items.emplace_back(std::move(parts[0]), std::move(parts[1]));
      }
    }
  }
  for (auto& [name, value] : arguments.named) items.emplace_back(Value(name), std::move(value));
  runtime.budget.spend(items.size() * 2 * sizeof(Value));
  return items;
}

Value dict(Runtime& runtime, CallArguments&& arguments) {
  return Value(std::make_shared<const Dict>(collect_items(runtime, "dict", std::move(arguments))));
}

Value make_namespace(Runtime& runtime, CallArguments&& arguments) {
  const auto made = runtime.make_namespace();
  for (auto& [name, value] : collect_items(runtime, "namespace", std::move(arguments))) {
    if (name.if_text() == nullptr) throw Failure("names in a namespace are strings");
    made->set(name.bytes(), std::move(value));
  }
  return Value(std::shared_ptr<Object>(made));
}

Value raise_exception(Runtime& runtime, CallArguments&& arguments) {
  const Parameters given("raise_exception", std::move(arguments), {"message"}, 1);
  throw Failure("the template refuses the conversation: " + to_text(given[0], runtime.budget));
}

Value strftime_now(Runtime& runtime, CallArguments&& arguments) {
  const Parameters given("strftime_now", std::move(arguments), {"format"}, 1);
  const std::time_t now = std::chrono::system_clock::to_time_t(runtime.now);
  std::tm local{};
  localtime_r(&now, &local);
  const auto since = runtime.now - std::chrono::system_clock::from_time_t(now);
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(since).count();
  // Python's own codes: microseconds, and the time zone, of which its `now` knows nothing.
  const std::string asked = given.text(0);
  if (asked.find('\0') != std::string::npos) throw Failure("a NUL in the format of a time");
  std::string format;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (asked[i] != '%') {
      format += asked[i];
      continue;
    }
    const char code = ++i < asked.size() ? asked[i] : '%';
    if (code == 'f') {
      format += fmt::format("{:06}", micros);
    } else if (code != 'z' && code != 'Z') {
      format += '%';
      format += code;
    }
  }
  // The end mark tells an empty result from a buffer that is too small.
  format += '.';
  std::string text(format.size() * 8 + 256, '\0');
  runtime.budget.spend(text.size());
  const std::size_t size = std::strftime(text.data(), text.size(), format.c_str(), &local);
  if (size == 0) throw Failure("the format of 'strftime_now' makes too long a text");
  text.resize(size - 1);
  if (find_invalid_utf8(text) != std::string::npos) {
    throw Failure("'strftime_now' makes text that is not UTF-8");
  }
  return runtime.text(std::move(text));
}

Value function(std::string name, Callable::Function call) {
  return Value(
      std::shared_ptr<Object>(std::make_shared<Callable>(std::move(name), std::move(call))));
}

struct Entry {
  std::string_view name;
  Value (*function)(Runtime&, CallArguments&&);
};

constexpr std::array<Entry, 5> kGlobals = {{
    {"dict", dict},
    {"namespace", make_namespace},
    {"raise_exception", raise_exception},
    {"range", range},
    {"strftime_now", strftime_now},
}};

}  // namespace

std::optional<Value> find_global(Runtime& runtime, std::string_view name) {
  for (const auto& [known, global] : kGlobals) {
    if (known != name) continue;
    return function(std::string(name), [&runtime, call = global](CallArguments&& arguments) {
      return call(runtime, std::move(arguments));
    });
  }
  if (name == "cycler" || name == "joiner" || name == "lipsum") {
    return function(std::string(name), [name = std::string(name)](CallArguments&&) -> Value {
      throw Failure(fmt::format("the function '{}' is not supported", name));
    });
  }
  return std::nullopt;
}

}  // namespace metal_candle::jinja
