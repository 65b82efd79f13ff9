// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "metal_candle/io/chat_template/budget.h"
#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/object.h"
#include "metal_candle/io/chat_template/text.h"

namespace metal_candle::jinja {
namespace {

// Dicts of no more items are searched one by one.
constexpr std::size_t kSmallDict = 12;

std::uint64_t add_weights(std::uint64_t a, std::uint64_t b) {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

void check_depth(unsigned depth) {
  if (depth > kMaxValueDepth) {
    throw Failure(fmt::format("lists and dicts nest deeper than {}", kMaxValueDepth));
  }
}

// Equal for equal keys, different for different ones; nothing for what cannot be a key.
std::optional<std::string> key_of(const Value& key) {
  if (key.if_text() != nullptr) return "s" + key.bytes();
  if (key.is_none()) return "n";
  if (key.is_integer()) return fmt::format("i{}", key.integer());
  if (const double* number = key.if_float()) {
    const auto whole = static_cast<std::int64_t>(std::clamp(*number, -9e15, 9e15));
    if (static_cast<double>(whole) == *number) return fmt::format("i{}", whole);
    return "f" + float_text(*number);
  }
  return std::nullopt;
}

const char* sequence_name(Sequence::Kind kind) {
  switch (kind) {
    case Sequence::Kind::kList:
      return "list";
    case Sequence::Kind::kTuple:
      return "tuple";
    case Sequence::Kind::kRange:
      return "range";
    case Sequence::Kind::kKeys:
      return "dict_keys";
    case Sequence::Kind::kValues:
      return "dict_values";
    case Sequence::Kind::kItems:
      return "dict_items";
  }
  return "";
}

void append_text(std::string& out, const Value& value);

void append_repr(std::string& out, const Value& value) {
  if (const Text* text = value.if_text()) {
    out += text->safe ? "Markup(" + quoted(text->bytes) + ")" : quoted(text->bytes);
  } else if (value.is_undefined()) {
    out += "Undefined";
  } else {
    append_text(out, value);
  }
}

void append_sequence(std::string& out, const Sequence& sequence) {
  if (sequence.kind == Sequence::Kind::kRange) throw Failure("a range cannot be printed");
  const bool is_tuple = sequence.kind == Sequence::Kind::kTuple;
  const bool is_view = !is_tuple && sequence.kind != Sequence::Kind::kList;
  if (is_view) out += fmt::format("{}(", sequence_name(sequence.kind));
  out += is_tuple ? '(' : '[';
  const char* separator = "";
  for (const Value& element : sequence.elements) {
    out += separator;
    append_repr(out, element);
    separator = ", ";
  }
  if (is_tuple && sequence.elements.size() == 1) out += ',';
  out += is_tuple ? ')' : ']';
  if (is_view) out += ')';
}

void append_dict(std::string& out, const Dict& dict) {
  out += '{';
  const char* separator = "";
  for (const auto& [key, value] : dict.items()) {
    out += separator;
    append_repr(out, key);
    out += ": ";
    append_repr(out, value);
    separator = ", ";
  }
  out += '}';
}

void append_text(std::string& out, const Value& value) {
  if (const Text* text = value.if_text()) {
    out += text->bytes;
  } else if (const bool* truth = value.if_bool()) {
    out += *truth ? "True" : "False";
  } else if (value.is_integer()) {
    out += fmt::format("{}", value.integer());
  } else if (const double* number = value.if_float()) {
    out += float_text(*number);
  } else if (value.is_none()) {
    out += "None";
  } else if (const Sequence* sequence = value.if_sequence()) {
    append_sequence(out, *sequence);
  } else if (const Dict* dict = value.if_dict()) {
    append_dict(out, *dict);
  } else if (value.if_object() != nullptr) {
    throw Failure(fmt::format("{} cannot be printed", value.described()));
  }
}

bool is_equal_unmetered(const Value& a, const Value& b);

bool is_equal_sequence(const Sequence& a, const Sequence& b) {
  const auto is_view = [](const Sequence& s) { return s.kind > Sequence::Kind::kRange; };
  if (is_view(a) || is_view(b)) {
    throw Failure(fmt::format("comparing a {} is not supported", sequence_name(a.kind)));
  }
  return a.kind == b.kind && std::equal(a.elements.begin(), a.elements.end(), b.elements.begin(),
                                        b.elements.end(), is_equal_unmetered);
}

bool is_equal_dict(const Dict& a, const Dict& b) {
  if (a.items().size() != b.items().size()) return false;
  return std::all_of(a.items().begin(), a.items().end(), [&](const auto& item) {
    const Value* other = b.find(item.first);
    return other != nullptr && is_equal_unmetered(item.second, *other);
  });
}

bool is_equal_unmetered(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_integer() && b.is_integer() ? a.integer() == b.integer() : a.number() == b.number();
  }
  if (a.if_text() != nullptr && b.if_text() != nullptr) return a.bytes() == b.bytes();
  if (a.if_sequence() != nullptr && b.if_sequence() != nullptr) {
    return is_equal_sequence(*a.if_sequence(), *b.if_sequence());
  }
  if (a.if_dict() != nullptr && b.if_dict() != nullptr) {
    return is_equal_dict(*a.if_dict(), *b.if_dict());
  }
  if (a.if_object() != nullptr) return a.if_object() == b.if_object();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

template <typename T>
int three_way(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

int compare_unmetered(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_integer() && b.is_integer() ? three_way(a.integer(), b.integer())
                                            : three_way(a.number(), b.number());
  }
  // The order of UTF-8 is that of code points.
  if (a.if_text() != nullptr && b.if_text() != nullptr) return three_way(a.bytes(), b.bytes());
  const Sequence* left = a.if_sequence();
  const Sequence* right = b.if_sequence();
  if (left != nullptr && right != nullptr && left->kind == right->kind &&
      (left->kind == Sequence::Kind::kList || left->kind == Sequence::Kind::kTuple)) {
    const std::size_t common = std::min(left->elements.size(), right->elements.size());
    for (std::size_t i = 0; i < common; ++i) {
      if (is_equal_unmetered(left->elements[i], right->elements[i])) continue;
      return compare_unmetered(left->elements[i], right->elements[i]);
    }
    return three_way(left->elements.size(), right->elements.size());
  }
  for (const Value* value : {&a, &b}) {
    if (value->is_undefined()) throw Failure(value->reason());
  }
  throw Failure(fmt::format("cannot order {} and {}", a.described(), b.described()));
}

}  // namespace

Text::Text(std::string text, bool is_safe)
    : bytes(std::move(text)), length(count_code_points(bytes)), safe(is_safe) {}

Sequence::Sequence(Kind sequence_kind, std::vector<Value> values)
    : kind(sequence_kind), elements(std::move(values)), depth(1), weight(sizeof(Sequence)) {
  for (const Value& element : elements) {
    depth = std::max(depth, element.depth() + 1);
    weight = add_weights(weight, element.weight());
  }
  check_depth(depth);
}

Dict::Dict(std::vector<std::pair<Value, Value>> items) {
  const bool is_small = items.size() <= kSmallDict;
  items_.reserve(items.size());
  for (std::pair<Value, Value>& item : items) {
    Value& key = item.first;
    Value& value = item.second;
    const auto name = key_of(key);
    if (!name) throw Failure(fmt::format("{} cannot be the key of a dict", key.described()));
    depth_ = std::max(depth_, value.depth() + 1);
    weight_ = add_weights(weight_, add_weights(key.weight(), value.weight()));
    const std::size_t known = position(key);
    if (known < items_.size()) {
      items_[known].second = std::move(value);
      continue;
    }
    if (!is_small) index_.emplace(*name, items_.size());
    items_.emplace_back(std::move(key), std::move(value));
  }
  check_depth(depth_);
}

std::size_t Dict::position(const Value& key) const {
  if (!index_.empty()) {
    const auto name = key_of(key);
    const auto found = name ? index_.find(*name) : index_.end();
    return found == index_.end() ? items_.size() : found->second;
  }
  if (!key.is_none() && !key.is_number() && key.if_text() == nullptr) return items_.size();
  const auto found = std::find_if(items_.begin(), items_.end(), [&](const auto& item) {
    return is_equal_unmetered(key, item.first);
  });
  return static_cast<std::size_t>(found - items_.begin());
}

const Value* Dict::find(const Value& key) const {
  const std::size_t found = position(key);
  return found < items_.size() ? &items_[found].second : nullptr;
}

const Value* Dict::find(std::string_view key) const { return find(Value(key)); }

Value Value::undefined(std::string reason) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(reason))};
  return value;
}

Value Value::sequence(Sequence::Kind kind, std::vector<Value> elements) {
  return Value(std::make_shared<const Sequence>(kind, std::move(elements)));
}

bool Value::is_integer() const {
  return std::holds_alternative<std::int64_t>(data_) || std::holds_alternative<bool>(data_);
}

bool Value::is_number() const { return is_integer() || if_float() != nullptr; }

std::int64_t Value::integer() const {
  const bool* truth = if_bool();
  return truth != nullptr ? static_cast<std::int64_t>(*truth) : std::get<std::int64_t>(data_);
}

double Value::number() const {
  return is_integer() ? static_cast<double>(integer()) : std::get<double>(data_);
}

std::uint64_t Value::weight() const {
  if (const Text* text = if_text()) return add_weights(sizeof(Text), text->bytes.size());
  if (const Sequence* sequence = if_sequence()) return sequence->weight;
  if (const Dict* dict = if_dict()) return dict->weight();
  return sizeof(Value);
}

unsigned Value::depth() const {
  if (const Sequence* sequence = if_sequence()) return sequence->depth;
  if (const Dict* dict = if_dict()) return dict->depth();
  if (const Object* object = if_object()) return object->depth();
  return 0;
}

std::string Value::type_name() const {
  if (is_undefined()) return "undefined value";
  if (is_none()) return "none";
  if (if_bool() != nullptr) return "bool";
  if (is_integer()) return "int";
  if (if_float() != nullptr) return "float";
  if (const Text* text = if_text()) return text->safe ? "safe string" : "string";
  if (const Sequence* sequence = if_sequence()) return sequence_name(sequence->kind);
  if (if_dict() != nullptr) return "dict";
  return if_object()->type_name();
}

std::string Value::described() const {
  if (is_none()) return "none";
  const std::string name = type_name();
  const bool with_vowel = std::string_view("aeiou").find(name.front()) != std::string_view::npos;
  return (with_vowel ? "an " : "a ") + name;
}

bool is_true(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_number()) return value.number() != 0;
  if (const Text* text = value.if_text()) return !text->bytes.empty();
  if (const Sequence* sequence = value.if_sequence()) return !sequence->elements.empty();
  if (const Dict* dict = value.if_dict()) return !dict->items().empty();
  return true;
}

bool is_equal(const Value& a, const Value& b, Budget& budget) {
  // No more than the lighter of the two is looked at before a difference shows.
  budget.spend(std::min(a.weight(), b.weight()));
  return is_equal_unmetered(a, b);
}

int compare(const Value& a, const Value& b, Budget& budget) {
  // Elements are looked at twice: for a difference, then for their order.
  budget.spend(2 * std::min(a.weight(), b.weight() / 2 + 1));
  return compare_unmetered(a, b);
}

std::string to_text(const Value& value, Budget& budget) {
  budget.spend(value.weight());
  std::string text;
  append_text(text, value);
  return text;
}

std::string to_repr(const Value& value, Budget& budget) {
  budget.spend(value.weight());
  std::string text;
  append_repr(text, value);
  return text;
}

}  // namespace metal_candle::jinja
