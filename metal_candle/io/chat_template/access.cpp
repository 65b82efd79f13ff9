// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/access.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/loop.h"
#include "metal_candle/io/chat_template/parameters.h"
#include "metal_candle/io/chat_template/text.h"

namespace metal_candle::jinja {
namespace {

template <std::size_t N>
bool is_in(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Value missing(const Value& object, std::string_view name) {
  return Value::undefined(fmt::format("{} has no '{}'", object.described(), name));
}

// The sandbox hands out an undefined value for what changes its object, and for private names.
Value unsafe(const Value& object, std::string_view name) {
  return Value::undefined(
      fmt::format("templates may not use '{}' of {}", name, object.described()));
}

Value make_method(const Value& self, std::string name, Callable::Function function) {
  return Value(std::shared_ptr<Object>(
      std::make_shared<Callable>(std::move(name), std::move(function), self.depth())));
}

Value unsupported_method(const Value& self, std::string_view name) {
  const auto message =
      fmt::format("the method '{}' of {} is not supported", name, self.described());
  return make_method(self, std::string(name),
                     [message](CallArguments&&) -> Value { throw Failure(message); });
}

Value view(Runtime& runtime, const Dict& dict, Sequence::Kind kind) {
  runtime.budget.spend(dict.items().size() * sizeof(Value));
  std::vector<Value> elements;
  elements.reserve(dict.items().size());
  for (const auto& [key, value] : dict.items()) {
    if (kind == Sequence::Kind::kItems) {
      elements.push_back(Value::tuple({key, value}));
    } else {
      elements.push_back(kind == Sequence::Kind::kKeys ? key : value);
    }
  }
  return Value::sequence(kind, std::move(elements));
}

Value view_method(Runtime& runtime, const Value& self, std::string_view name, Sequence::Kind kind) {
  return make_method(self, std::string(name),
                     [&runtime, self, name, kind](CallArguments&& arguments) {
                       const Parameters none(name, std::move(arguments), {});
                       return view(runtime, *self.if_dict(), kind);
                     });
}

std::optional<Value> dict_attribute(Runtime& runtime, const Value& self, std::string_view name) {
  static constexpr std::array<std::string_view, 5> kUnsafe = {"clear", "pop", "popitem",
                                                              "setdefault", "update"};
  if (is_in(kUnsafe, name)) return unsafe(self, name);
  if (name == "items") return view_method(runtime, self, "items", Sequence::Kind::kItems);
  if (name == "keys") return view_method(runtime, self, "keys", Sequence::Kind::kKeys);
  if (name == "values") return view_method(runtime, self, "values", Sequence::Kind::kValues);
  if (name == "copy") return make_method(self, "copy", [self](CallArguments&&) { return self; });
  if (name == "get") {
    return make_method(self, "get", [self](CallArguments&& arguments) {
      const Parameters given("get", std::move(arguments), {"key", "default"}, 1);
      const Value* found = self.if_dict()->find(given[0]);
      const Value* fallback = given.find(1);
      return found != nullptr ? *found : fallback != nullptr ? *fallback : Value();
    });
  }
  if (name == "fromkeys") return unsupported_method(self, "fromkeys");
  return std::nullopt;
}

Value count_or_index(Runtime& runtime, const Value& self, bool is_count, const Value& wanted) {
  std::int64_t count = 0;
  const auto& elements = self.if_sequence()->elements;
  for (std::size_t i = 0; i < elements.size(); ++i) {
    if (!is_equal(elements[i], wanted, runtime.budget)) continue;
    if (!is_count) return Value(static_cast<std::int64_t>(i));
    ++count;
  }
  if (!is_count) throw Failure("'index': no such element");
  return Value(count);
}

std::optional<Value> sequence_attribute(Runtime& runtime, const Value& self,
                                        std::string_view name) {
  static constexpr std::array<std::string_view, 8> kUnsafe = {
      "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
  const Sequence::Kind kind = self.if_sequence()->kind;
  if (kind == Sequence::Kind::kList) {
    if (is_in(kUnsafe, name)) return unsafe(self, name);
    if (name == "copy") return make_method(self, "copy", [self](CallArguments&&) { return self; });
  }
  if (kind > Sequence::Kind::kRange) {
    if (name == "isdisjoint" || name == "mapping") return unsupported_method(self, name);
    return std::nullopt;
  }
  if (name == "count" || name == "index") {
    const bool is_count = name == "count";
    return make_method(
        self, std::string(name), [&runtime, self, is_count](CallArguments&& arguments) {
          const Parameters given(is_count ? "count" : "index", std::move(arguments), {"value"}, 1);
          return count_or_index(runtime, self, is_count, given[0]);
        });
  }
  if (kind == Sequence::Kind::kRange && (name == "start" || name == "stop" || name == "step")) {
    throw Failure(fmt::format("'{}' of a range is not supported", name));
  }
  return std::nullopt;
}

void refuse_number_attribute(const Value& self, std::string_view name) {
  static constexpr std::array<std::string_view, 13> kNames = {
      "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
      "from_bytes",       "fromhex",   "hex",        "imag",      "is_integer",
      "numerator",        "real",      "to_bytes"};
  if (is_in(kNames, name)) {
    throw Failure(fmt::format("'{}' of {} is not supported", name, self.described()));
  }
}

// What getattr() gives in the sandbox; nothing when there is no such attribute.
std::optional<Value> find_attribute(Runtime& runtime, const Value& object,
                                    const std::string& name) {
  if (name.starts_with("__") && name.ends_with("__")) return unsafe(object, name);
  if (object.if_text() != nullptr) return bind_text_method(runtime, object, name);
  if (object.if_dict() != nullptr) return dict_attribute(runtime, object, name);
  if (object.if_sequence() != nullptr) return sequence_attribute(runtime, object, name);
  if (const auto* attributes = object.if_object<Namespace>()) {
    const Value* found = attributes->find(name);
    return found == nullptr ? std::nullopt : std::optional<Value>(*found);
  }
  if (auto* loop = object.if_object<Loop>()) return loop->attribute(runtime, object, name);
  if (object.is_number()) refuse_number_attribute(object, name);
  return std::nullopt;
}

// The position that an index means, or nothing when it is outside.
std::optional<std::size_t> resolve_index(std::int64_t index, std::size_t length) {
  const auto size = static_cast<std::int64_t>(length);
  if (index < 0) index += size;
  if (index < 0 || index >= size) return std::nullopt;
  return static_cast<std::size_t>(index);
}

std::optional<Value> find_item(Runtime& runtime, const Value& object, const Value& key) {
  if (const Dict* dict = object.if_dict()) {
    runtime.budget.step();
    const Value* found = dict->find(key);
    return found == nullptr ? std::nullopt : std::optional<Value>(*found);
  }
  if (!key.is_integer()) return std::nullopt;
  if (const Sequence* sequence = object.if_sequence()) {
    if (sequence->kind > Sequence::Kind::kRange) return std::nullopt;
    const auto index = resolve_index(key.integer(), sequence->elements.size());
    return index ? std::optional<Value>(sequence->elements[*index]) : std::nullopt;
  }
  if (const Text* text = object.if_text()) {
    const auto index = resolve_index(key.integer(), text->length);
    if (!index) return std::nullopt;
    const Value position(static_cast<std::int64_t>(*index));
    const Value next(static_cast<std::int64_t>(*index) + 1);
    return get_slice(runtime, object, position, next, Value());
  }
  return std::nullopt;
}

std::int64_t slice_bound(const Value& value, std::int64_t otherwise) {
  if (value.is_none()) return otherwise;
  if (value.is_undefined()) throw Failure(value.reason());
  if (!value.is_integer()) {
    throw Failure(fmt::format("the bounds of a slice are integers, not {}", value.described()));
  }
  return value.integer();
}

struct Range {
  std::int64_t start, stop, step;

  template <typename Visit>
  void for_each(Visit visit) const {
    for (std::int64_t i = start; step > 0 ? i < stop : i > stop; i += step) {
      visit(static_cast<std::size_t>(i));
    }
  }
};

// The indices that Python's slice selects in `length` elements.
Range resolve_slice(const Value& start, const Value& stop, const Value& step, std::size_t length) {
  const auto size = static_cast<std::int64_t>(length);
  const std::int64_t stride = slice_bound(step, 1);
  if (stride == 0) throw Failure("the step of a slice is zero");
  const std::int64_t lowest = stride > 0 ? 0 : -1;
  const std::int64_t highest = stride > 0 ? size : size - 1;
  const auto resolve = [&](const Value& value, std::int64_t otherwise) {
    if (value.is_none()) return otherwise;
    const std::int64_t bound = slice_bound(value, 0);
    return std::clamp(bound < 0 ? bound + size : bound, lowest, highest);
  };
  const Range range{resolve(start, stride > 0 ? lowest : highest),
                    resolve(stop, stride > 0 ? highest : lowest),
                    // A larger stride takes no second element either.
                    std::clamp(stride, -size - 1, size + 1)};
  return range;
}

}  // namespace

Value get_attribute(Runtime& runtime, const Value& object, const std::string& name) {
  if (object.is_undefined()) throw Failure(object.reason());
  if (auto attribute = find_attribute(runtime, object, name)) return *std::move(attribute);
  if (const Dict* dict = object.if_dict()) {
    runtime.budget.step();
    if (const Value* found = dict->find(name)) return *found;
  }
  return name.starts_with('_') ? unsafe(object, name) : missing(object, name);
}

Value get_item(Runtime& runtime, const Value& object, const Value& key) {
  if (object.is_undefined()) throw Failure(object.reason());
  if (auto item = find_item(runtime, object, key)) return *std::move(item);
  if (key.if_text() != nullptr) {
    if (auto attribute = find_attribute(runtime, object, key.bytes())) {
      return *std::move(attribute);
    }
    return missing(object, key.bytes());
  }
  return Value::undefined(
      fmt::format("{} has no element {}", object.described(),
                  key.is_integer() ? to_text(key, runtime.budget) : "under " + key.described()));
}

Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                const Value& step) {
  if (object.is_undefined()) throw Failure(object.reason());
  if (const Text* text = object.if_text()) {
    const Range range = resolve_slice(start, stop, step, text->length);
    const bool is_ascii = text->length == text->bytes.size();
    std::string out;
    if (range.step == 1 && range.start < range.stop) {
      if (!is_ascii) runtime.budget.spend(text->bytes.size());
      const auto from = static_cast<std::size_t>(range.start);
      const auto to = static_cast<std::size_t>(range.stop);
      const std::size_t begin = is_ascii ? from : byte_offset(text->bytes, from);
      const std::size_t size =
          is_ascii ? to - from
                   : byte_offset(std::string_view(text->bytes).substr(begin), to - from);
      out = text->bytes.substr(begin, size);
    } else if (range.step != 1) {
      runtime.budget.spend(text->length * sizeof(char32_t));
      std::u32string characters;
      for (std::size_t i = 0; i < text->bytes.size();) {
        characters += next_code_point(text->bytes, i);
      }
      range.for_each([&](std::size_t i) { append_code_point(out, characters[i]); });
    }
    return runtime.text(std::move(out));
  }
  const Sequence* sequence = object.if_sequence();
  if (sequence == nullptr || sequence->kind > Sequence::Kind::kRange) {
    throw Failure(fmt::format("{} cannot be sliced", object.described()));
  }
  std::vector<Value> elements;
  resolve_slice(start, stop, step, sequence->elements.size()).for_each([&](std::size_t i) {
    elements.push_back(sequence->elements[i]);
  });
  runtime.budget.spend(elements.size() * sizeof(Value));
  return Value::sequence(sequence->kind, std::move(elements));
}

Value get_path(Runtime& runtime, Value object, const Value& path, const Value* fallback) {
  const auto follow = [&](const Value& part) {
    object = get_item(runtime, object, part);
    if (fallback != nullptr && object.is_undefined()) object = *fallback;
  };
  if (path.if_text() == nullptr) {
    if (!path.is_none()) follow(path);
    return object;
  }
  for (const auto part : split(path.bytes(), ".", -1, false)) {
    const bool is_number =
        !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == part.npos;
    follow(is_number ? Value(static_cast<std::int64_t>(std::stol(std::string(part))))
                     : Value(part));
  }
  return object;
}

bool contains(Runtime& runtime, const Value& haystack, const Value& needle) {
  if (const Text* text = haystack.if_text()) {
    if (needle.if_text() == nullptr) {
      throw Failure(fmt::format("'in' a string takes a string, not {}", needle.described()));
    }
    runtime.budget.spend(text->bytes.size() / 8);
    return find_text(text->bytes, needle.bytes()) != std::string_view::npos;
  }
  if (const Dict* dict = haystack.if_dict()) {
    runtime.budget.step();
    return dict->find(needle) != nullptr;
  }
  Iterator iterator(haystack, runtime.budget);
  while (const auto element = iterator.next()) {
    if (is_equal(*element, needle, runtime.budget)) return true;
  }
  return false;
}

std::size_t length_of(const Value& value) {
  if (const Text* text = value.if_text()) return text->length;
  if (const Sequence* sequence = value.if_sequence()) return sequence->elements.size();
  if (const Dict* dict = value.if_dict()) return dict->items().size();
  if (value.is_undefined()) return 0;
  throw Failure(fmt::format("{} has no length", value.described()));
}

}  // namespace metal_candle::jinja
