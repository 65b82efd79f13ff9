// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// JSON objects that account for which keys were read.
#include "metal_candle/io/json_object.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/io/mapped_file.h"

namespace metal_candle {

using nlohmann::json;

struct JsonObject::Document {
  std::string name;
  json root;
  std::set<std::string, std::less<>> read;  // With the prefixes of nested objects.
};

namespace {

const json& as_json(const void* value) { return *static_cast<const json*>(value); }

std::string_view type_name(const json& value) {
  if (value.is_number()) return "number";
  return value.type_name();
}

// The value as T, or FormatError.
template <typename T>
T convert(const JsonObject& object, std::string_view key, const json& value, bool fits,
          const char* wanted) {
  if (!fits) {
    std::string shown = value.dump(-1, ' ', false, json::error_handler_t::replace);
    if (shown.size() > 60) shown = shown.substr(0, 57) + "...";
    throw FormatError(fmt::format("{}: expected {}, found {}", object.where(key), wanted, shown));
  }
  return value.get<T>();
}

std::int64_t to_integer(const JsonObject& object, std::string_view key, const json& value) {
  // Writers of other languages spell 2048 as 2048.0 at times.
  if (value.is_number_float()) {
    const auto number = value.get<double>();
    if (std::abs(number) < 0x1p63 && number == std::trunc(number))
      return static_cast<std::int64_t>(number);
  }
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() ||
                     value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX));
  return convert<std::int64_t>(object, key, value, fits, "an integer");
}

bool says_nothing(const json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         ((value.is_array() || value.is_object()) && value.empty());
}

void collect_unread(const json& object, const std::string& prefix,
                    const std::set<std::string, std::less<>>& read,
                    std::vector<std::string>& unread) {
  for (const auto& [key, value] : object.items()) {
    const std::string path = prefix + key;
    if (!read.contains(path)) {
      if (!says_nothing(value)) unread.push_back(path);
    } else if (value.is_object() && read.contains(path + ".")) {
      collect_unread(value, path + ".", read, unread);
    }
  }
}

}  // namespace

JsonObject::JsonObject(std::shared_ptr<Document> document, std::string prefix, const void* value)
    : document_(std::move(document)), prefix_(std::move(prefix)), value_(value) {}

JsonObject JsonObject::read(const std::string& path) {
  const auto file = MappedFile::open(path);
  return parse({reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()}, path);
}

JsonObject JsonObject::parse(std::string_view text, std::string name) {
  auto document = std::make_shared<Document>();
  document->name = std::move(name);
  try {
    document->root = json::parse(text);
  } catch (const json::exception& error) {
    throw FormatError(fmt::format("{}: not valid JSON: {}", document->name, error.what()));
  }
  if (!document->root.is_object()) {
    throw FormatError(fmt::format("{}: expected a JSON object, found {}", document->name,
                                  type_name(document->root)));
  }
  const void* root = &document->root;
  return {std::move(document), "", root};
}

const void* JsonObject::find(std::string_view key) const {
  const json& object = as_json(value_);
  const auto found = object.find(key);
  document_->read.insert(prefix_ + std::string(key));
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const void* JsonObject::require(std::string_view key) const {
  const void* value = find(key);
  if (value == nullptr) throw FormatError(fmt::format("{}: missing", where(key)));
  return value;
}

bool JsonObject::has(std::string_view key) const {
  const json& object = as_json(value_);
  const auto found = object.find(key);
  return found != object.end() && !found->is_null();
}

bool JsonObject::contains(std::string_view key) const { return as_json(value_).contains(key); }

std::int64_t JsonObject::integer(std::string_view key) const {
  return to_integer(*this, key, as_json(require(key)));
}
double JsonObject::number(std::string_view key) const {
  const json& value = as_json(require(key));
  return convert<double>(*this, key, value, value.is_number(), "a number");
}
bool JsonObject::boolean(std::string_view key) const {
  const json& value = as_json(require(key));
  return convert<bool>(*this, key, value, value.is_boolean(), "true or false");
}
std::string JsonObject::string(std::string_view key) const {
  const json& value = as_json(require(key));
  return convert<std::string>(*this, key, value, value.is_string(), "a string");
}

JsonObject JsonObject::object(std::string_view key) const {
  const json& value = as_json(require(key));
  if (!value.is_object()) {
    throw FormatError(
        fmt::format("{}: expected an object, found {}", where(key), type_name(value)));
  }
  std::string prefix = prefix_ + std::string(key) + ".";
  document_->read.insert(prefix);  // Its keys are accounted for one by one.
  return {document_, std::move(prefix), &value};
}

std::vector<JsonObject> JsonObject::objects(std::string_view key) const {
  const json& value = as_json(require(key));
  std::vector<JsonObject> objects;
  for (std::size_t i = 0; value.is_array() && i < value.size(); ++i) {
    if (!value[i].is_object()) break;
    objects.push_back({document_, fmt::format("{}{}[{}].", prefix_, key, i), &value[i]});
  }
  if (!value.is_array() || objects.size() != value.size()) {
    throw FormatError(fmt::format("{}: expected a list of objects", where(key)));
  }
  return objects;
}

std::vector<std::string> JsonObject::strings(std::string_view key) const {
  const json& value = as_json(require(key));
  bool fits = value.is_array();
  if (fits) {
    for (const json& element : value) fits = fits && element.is_string();
  }
  return convert<std::vector<std::string>>(*this, key, value, fits, "a list of strings");
}

std::vector<std::int64_t> JsonObject::integers(std::string_view key) const {
  const json& value = as_json(require(key));
  std::vector<std::int64_t> integers;
  for (const json& element :
       convert<json>(*this, key, value, value.is_array(), "a list of integers")) {
    integers.push_back(to_integer(*this, key, element));
  }
  return integers;
}

std::vector<double> JsonObject::numbers(std::string_view key) const {
  const json& value = as_json(require(key));
  bool fits = value.is_array();
  if (fits) {
    for (const json& element : value) fits = fits && element.is_number();
  }
  return convert<std::vector<double>>(*this, key, value, fits, "a list of numbers");
}

std::int64_t JsonObject::integer(std::string_view key, std::int64_t otherwise) const {
  return find(key) != nullptr ? integer(key) : otherwise;
}
double JsonObject::number(std::string_view key, double otherwise) const {
  return find(key) != nullptr ? number(key) : otherwise;
}
bool JsonObject::boolean(std::string_view key, bool otherwise) const {
  return find(key) != nullptr ? boolean(key) : otherwise;
}
std::string JsonObject::string(std::string_view key, std::string otherwise) const {
  return find(key) != nullptr ? string(key) : std::move(otherwise);
}

std::string_view JsonObject::type(std::string_view key) const {
  const json& object = as_json(value_);
  const auto found = object.find(key);
  return found == object.end() ? "null" : type_name(*found);
}

std::vector<std::string> JsonObject::keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : as_json(value_).items()) keys.push_back(key);
  return keys;
}

void JsonObject::ignore(std::initializer_list<std::string_view> keys) const {
  for (const std::string_view key : keys) document_->read.insert(prefix_ + std::string(key));
}

std::string JsonObject::where(std::string_view key) const {
  return fmt::format("{}: {}{}", document_->name, prefix_, key);
}

std::vector<std::string> JsonObject::unread() const {
  std::vector<std::string> unread;
  collect_unread(as_json(value_), prefix_, document_->read, unread);
  return unread;
}

}  // namespace metal_candle
