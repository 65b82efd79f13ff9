// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The values of a template: what JSON has, as Python sees it, and what templates make of it.
// They are immutable, except for the few objects that object.h lists, and cheap to copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace metal_candle::jinja {

class Value;
class Budget;
class Dict;
class Object;

/// Lists and dicts nest no deeper, so that walking and freeing them needs little stack.
inline constexpr unsigned kMaxValueDepth = 200;

struct Text {
  explicit Text(std::string text, bool is_safe = false);

  std::string bytes;   // Valid UTF-8.
  std::size_t length;  // In code points.
  bool safe;           // Python's Markup, which the `safe` filter makes.
};

/// Everything that holds a number of values in order.
struct Sequence {
  enum class Kind { kList, kTuple, kRange, kKeys, kValues, kItems };

  Sequence(Kind sequence_kind, std::vector<Value> values);

  Kind kind;
  std::vector<Value> elements;
  unsigned depth;        // Of nesting.
  std::uint64_t weight;  // About the bytes of everything in it, shared things counted each time.
};

/// Missing, and why: Jinja's Undefined, which prints as nothing and fails at most other uses.
struct Undefined {
  std::shared_ptr<const std::string> reason;
};

class Value {
 public:
  /// None.
  Value() = default;
  explicit Value(bool value) : data_(value) {}
  explicit Value(std::int64_t value) : data_(value) {}
  explicit Value(double value) : data_(value) {}
  explicit Value(std::string value) : data_(std::make_shared<const Text>(std::move(value))) {}
  explicit Value(std::string_view value) : Value(std::string(value)) {}
  explicit Value(const char* value) : Value(std::string(value)) {}
  explicit Value(std::shared_ptr<const Text> value) : data_(std::move(value)) {}
  explicit Value(std::shared_ptr<const Sequence> value) : data_(std::move(value)) {}
  explicit Value(std::shared_ptr<const Dict> value) : data_(std::move(value)) {}
  explicit Value(std::shared_ptr<Object> value) : data_(std::move(value)) {}

  static Value undefined(std::string reason);
  /// Throws Failure when it would nest deeper than kMaxValueDepth.
  static Value sequence(Sequence::Kind kind, std::vector<Value> elements);
  static Value list(std::vector<Value> elements) {
    return sequence(Sequence::Kind::kList, std::move(elements));
  }
  static Value tuple(std::vector<Value> elements) {
    return sequence(Sequence::Kind::kTuple, std::move(elements));
  }

  [[nodiscard]] bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  [[nodiscard]] bool is_none() const { return std::holds_alternative<std::monostate>(data_); }
  [[nodiscard]] bool is_integer() const;  // As in Python, a bool is one.
  [[nodiscard]] bool is_number() const;

  // Null when the value is of another type.
  [[nodiscard]] const bool* if_bool() const { return std::get_if<bool>(&data_); }
  [[nodiscard]] const double* if_float() const { return std::get_if<double>(&data_); }
  [[nodiscard]] const Text* if_text() const { return pointer<const Text>(); }
  [[nodiscard]] const Sequence* if_sequence() const { return pointer<const Sequence>(); }
  [[nodiscard]] const Dict* if_dict() const { return pointer<const Dict>(); }
  [[nodiscard]] Object* if_object() const { return pointer<Object>(); }
  template <typename T>
  [[nodiscard]] T* if_object() const {
    return dynamic_cast<T*>(if_object());
  }
  [[nodiscard]] std::shared_ptr<const Sequence> shared_sequence() const {
    return std::get<std::shared_ptr<const Sequence>>(data_);
  }

  /// The bytes of a text. It must be one.
  [[nodiscard]] const std::string& bytes() const { return if_text()->bytes; }
  /// An integer's value. It must be one.
  [[nodiscard]] std::int64_t integer() const;
  /// A number's value. It must be one.
  [[nodiscard]] double number() const;
  /// Why it is undefined. It must be.
  [[nodiscard]] const std::string& reason() const { return *std::get<Undefined>(data_).reason; }

  [[nodiscard]] std::uint64_t weight() const;
  [[nodiscard]] unsigned depth() const;
  /// Python's name of the type, for messages.
  [[nodiscard]] std::string type_name() const;
  /// The same with an article.
  [[nodiscard]] std::string described() const;

 private:
  template <typename T>
  T* pointer() const {
    const auto* shared = std::get_if<std::shared_ptr<T>>(&data_);
    return shared == nullptr ? nullptr : shared->get();
  }

  std::variant<std::monostate, Undefined, bool, std::int64_t, double, std::shared_ptr<const Text>,
               std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>,
               std::shared_ptr<Object>>
      data_;
};

/// Keys and values in the order in which keys first came.
class Dict {
 public:
  /// A later value of an equal key replaces the earlier one. Throws Failure for keys that are not
  /// text, numbers, bools or none, and when it would nest deeper than kMaxValueDepth.
  explicit Dict(std::vector<std::pair<Value, Value>> items);

  [[nodiscard]] const std::vector<std::pair<Value, Value>>& items() const { return items_; }
  /// Null when there is no such key, or the key is of a type that keys do not have.
  [[nodiscard]] const Value* find(const Value& key) const;
  [[nodiscard]] const Value* find(std::string_view key) const;
  [[nodiscard]] unsigned depth() const { return depth_; }
  [[nodiscard]] std::uint64_t weight() const { return weight_; }

 private:
  // items_.size() when there is no such key.
  [[nodiscard]] std::size_t position(const Value& key) const;

  std::vector<std::pair<Value, Value>> items_;
  std::unordered_map<std::string, std::size_t> index_;  // By key_of(); empty for few items.
  unsigned depth_ = 1;
  std::uint64_t weight_ = 0;
};

/// bool(value).
[[nodiscard]] bool is_true(const Value& value);

/// `a == b`. Spends their weight, because shared values are compared as often as they are reached.
[[nodiscard]] bool is_equal(const Value& a, const Value& b, Budget& budget);

/// Negative, zero or positive as a < b, a == b or a > b. Throws Failure for what Python cannot
/// order. Numbers must not be NaN.
[[nodiscard]] int compare(const Value& a, const Value& b, Budget& budget);

/// str(value). Throws Failure for objects, whose text would be an address.
[[nodiscard]] std::string to_text(const Value& value, Budget& budget);

/// repr(value).
[[nodiscard]] std::string to_repr(const Value& value, Budget& budget);

}  // namespace metal_candle::jinja
