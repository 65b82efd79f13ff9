// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/object.h"

#include <fmt/format.h>

#include "metal_candle/io/chat_template/budget.h"
#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/text.h"

namespace metal_candle::jinja {

Object::Object(unsigned depth_of_owned) : depth_(depth_of_owned + 1) {
  if (depth_ > kMaxValueDepth) {
    throw Failure(fmt::format("values nest deeper than {}", kMaxValueDepth));
  }
}

const Value* Namespace::find(const std::string& name) const {
  for (const auto& [known, value] : attributes_) {
    if (known == name) return &value;
  }
  return nullptr;
}

void Namespace::set(const std::string& name, Value value) {
  if (name.starts_with('_')) {
    throw Failure(fmt::format("'{}': names in a namespace cannot begin with '_'", name));
  }
  for (auto& [known, old] : attributes_) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  attributes_.emplace_back(name, std::move(value));
}

Iterator::Iterator(const Value& value, Budget& budget) {
  if (value.if_sequence() != nullptr) {
    values_ = value.shared_sequence();
    length_ = values_->elements.size();
    return;
  }
  if (value.if_object<Generator>() != nullptr) {
    generator_ = value;
    length_ = kUnknown;
    return;
  }
  std::vector<Value> elements;
  if (const Text* text = value.if_text()) {
    budget.spend(text->length * sizeof(Text));
    elements.reserve(text->length);
    for (std::size_t i = 0; i < text->bytes.size();) {
      const std::size_t start = i;
      (void)next_code_point(text->bytes, i);
      elements.emplace_back(text->bytes.substr(start, i - start));
    }
  } else if (const Dict* dict = value.if_dict()) {
    budget.spend(dict->items().size() * sizeof(Value));
    for (const auto& item : dict->items()) elements.push_back(item.first);
  } else if (!value.is_undefined()) {
    throw Failure(fmt::format("cannot iterate over {}", value.described()));
  }
  length_ = elements.size();
  values_ = std::make_shared<const Sequence>(Sequence::Kind::kList, std::move(elements));
}

std::optional<Value> Iterator::next() {
  if (auto* generator = generator_.if_object<Generator>()) return generator->next();
  if (next_ == values_->elements.size()) return std::nullopt;
  return values_->elements[next_++];
}

std::vector<Value> elements_of(const Value& value, Budget& budget) {
  Iterator iterator(value, budget);
  std::vector<Value> elements;
  if (iterator.length() != Iterator::kUnknown) elements.reserve(iterator.length());
  while (auto element = iterator.next()) elements.push_back(*std::move(element));
  budget.spend(elements.size() * sizeof(Value));
  return elements;
}

bool is_iterable(const Value& value) {
  return value.if_sequence() != nullptr || value.if_dict() != nullptr ||
         value.if_text() != nullptr || value.is_undefined() ||
         value.if_object<Generator>() != nullptr;
}

Value make_generator(std::vector<Value> values) {
  const Value list = Value::list(std::move(values));
  auto next = [list, i = std::size_t{0}]() mutable -> std::optional<Value> {
    const auto& elements = list.if_sequence()->elements;
    return i < elements.size() ? std::optional<Value>(elements[i++]) : std::nullopt;
  };
  return Value(std::shared_ptr<Object>(std::make_shared<Generator>(std::move(next), list.depth())));
}

Value make_generator(const Value& source, Budget& budget,
                     std::function<std::optional<Value>(const Value&)> map) {
  auto next = [iterator = Iterator(source, budget), &budget,
               map = std::move(map)]() mutable -> std::optional<Value> {
    while (const auto element = iterator.next()) {
      budget.step();
      if (auto result = map(*element)) return result;
    }
    return std::nullopt;
  };
  return Value(
      std::shared_ptr<Object>(std::make_shared<Generator>(std::move(next), source.depth())));
}

}  // namespace metal_candle::jinja
