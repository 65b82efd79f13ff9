// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>

#include "metal_candle/core/error.h"
#include "metal_candle/io/quote.h"

namespace metal_candle::tokenizers {
namespace {

constexpr std::size_t kDeepest = 100;
constexpr std::uint32_t kMostComparedMembers = 100;

std::string_view name_of(JsonKind kind) {
  switch (kind) {
    case JsonKind::kNull:
      return "null";
    case JsonKind::kBoolean:
      return "a boolean";
    case JsonKind::kInteger:
      return "an integer";
    case JsonKind::kReal:
      return "a real number";
    case JsonKind::kString:
      return "a string";
    case JsonKind::kArray:
      return "an array";
    case JsonKind::kObject:
      return "an object";
  }
  return "";
}

// A name as it is in a path; tokens are names too, and may be anything.
std::string shown_name(std::string_view name) {
  const bool plain =
      name.size() <= 40 && std::ranges::all_of(name, [](char c) { return c > ' ' && c <= '~'; });
  return plain ? std::string(name) : quote(name);
}

}  // namespace

// What the parser calls as it reads. It has no say in the names.
class JsonBuilder {
 public:
  explicit JsonBuilder(JsonDocument& document) : document_(document) {}

  bool null() { return add(JsonKind::kNull, 0); }
  bool boolean(bool value) { return add(JsonKind::kBoolean, value ? 1 : 0); }
  bool number_integer(std::int64_t value) {
    return add(JsonKind::kInteger, static_cast<std::uint64_t>(value));
  }
  bool number_unsigned(std::uint64_t value) {
    if (value <= std::numeric_limits<std::int64_t>::max()) return add(JsonKind::kInteger, value);
    return number_float(static_cast<double>(value), {});
  }
  bool number_float(double value, const std::string&) {
    return add(JsonKind::kReal, std::bit_cast<std::uint64_t>(value));
  }
  bool string(const std::string& value) { return add_string(value); }
  bool key(const std::string& name) {
    refuse_repeated(name);
    add_node(JsonKind::kString, document_.strings_.size(), name.size());
    document_.strings_ += name;
    return true;
  }
  bool start_object(std::size_t) { return start(JsonKind::kObject); }
  bool start_array(std::size_t) { return start(JsonKind::kArray); }
  bool end_object() { return end(); }
  bool end_array() { return end(); }
  bool binary(const nlohmann::json::binary_t&) { return false; }  // JSON text has none.

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& e) {
    std::string_view why = e.what();
    const auto bracket = why.find("] ");
    if (bracket != std::string_view::npos) why.remove_prefix(bracket + 2);
    throw FormatError(
        fmt::format("{}: not valid JSON at byte {}: {}", document_.file_, position, why));
  }

 private:
  using Node = JsonDocument::Node;

  void add_node(JsonKind kind, std::uint64_t bits, std::size_t size) {
    auto& nodes = document_.nodes_;
    const auto next = static_cast<std::uint32_t>(nodes.size() + 1);
    nodes.push_back({kind, static_cast<std::uint32_t>(size), next, bits});
  }
  bool add(JsonKind kind, std::uint64_t bits) {
    count();
    add_node(kind, bits, 0);
    return true;
  }
  bool add_string(std::string_view value) {
    count();
    add_node(JsonKind::kString, document_.strings_.size(), value.size());
    document_.strings_ += value;
    return true;
  }
  void count() {
    if (!open_.empty()) ++document_.nodes_[open_.back()].size;
  }
  bool start(JsonKind kind) {
    if (open_.size() == kDeepest) {
      throw FormatError(
          fmt::format("{}: nested more than {} levels deep", document_.file_, kDeepest));
    }
    count();
    open_.push_back(static_cast<std::uint32_t>(document_.nodes_.size()));
    add_node(kind, 0, 0);
    return true;
  }
  bool end() {
    document_.nodes_[open_.back()].next = static_cast<std::uint32_t>(document_.nodes_.size());
    open_.pop_back();
    return true;
  }
  void refuse_repeated(std::string_view name) {
    const auto& nodes = document_.nodes_;
    const std::uint32_t object = open_.back();
    if (nodes[object].size > kMostComparedMembers) return;
    for (auto i = object + 1; i < nodes.size(); i = nodes[i + 1].next) {
      if (name == std::string_view(document_.strings_).substr(nodes[i].bits, nodes[i].size)) {
        throw FormatError(
            fmt::format("{}: {} occurs twice in one object", document_.file_, quote(name)));
      }
    }
  }

  JsonDocument& document_;
  std::vector<std::uint32_t> open_;  // arrays and objects that have not ended
};

JsonDocument JsonDocument::parse(std::string_view text, std::string file) {
  JsonDocument document;
  document.file_ = std::move(file);
  if (text.size() >= std::numeric_limits<std::uint32_t>::max()) {
    throw FormatError(fmt::format("{}: {} bytes are too many", document.file_, text.size()));
  }
  JsonBuilder builder(document);
  nlohmann::json::sax_parse(text, &builder);
  return document;
}

JsonField JsonDocument::root() const { return {*this, 0}; }

// Found when it is wanted: by walking from the root into whatever holds this value.
std::string JsonField::path() const {
  const auto& nodes = document_->nodes_;
  std::string path;
  std::uint32_t i = 0;
  while (i != index_) {
    const bool in_object = nodes[i].kind == JsonKind::kObject;
    std::uint32_t child = i + 1;
    std::size_t position = 0;
    while (nodes[in_object ? child + 1 : child].next <= index_) {
      child = nodes[in_object ? child + 1 : child].next;
      ++position;
    }
    if (in_object) {
      if (!path.empty()) path += '.';
      path += shown_name(JsonField(*document_, child).text());
      i = child + 1;
    } else {
      path += fmt::format("[{}]", position);
      i = child;
    }
  }
  return path;
}

std::string JsonField::message(std::string_view complaint) const {
  const std::string where = path();
  return where.empty() ? fmt::format("{}: {}", document_->file_, complaint)
                       : fmt::format("{}: {}: {}", document_->file_, where, complaint);
}

void JsonField::fail(std::string_view complaint) const { throw FormatError(message(complaint)); }

void JsonField::expect(JsonKind kind, std::string_view name) const {
  if (node().kind != kind) fail(fmt::format("is {}, not {}", name_of(node().kind), name));
}

bool JsonField::is_zero() const {
  return (kind() == JsonKind::kInteger && node().bits == 0) ||
         (kind() == JsonKind::kReal && std::bit_cast<double>(node().bits) == 0.0);
}

std::string_view JsonField::string() const {
  expect(JsonKind::kString, "a string");
  return text();
}

bool JsonField::boolean() const {
  expect(JsonKind::kBoolean, "true or false");
  return node().bits != 0;
}

std::int64_t JsonField::integer(std::int64_t low, std::int64_t high) const {
  expect(JsonKind::kInteger, "an integer");
  const auto value = static_cast<std::int64_t>(node().bits);
  if (value < low || value > high) fail(fmt::format("{} is not in [{}, {}]", value, low, high));
  return value;
}

JsonField::Items JsonField::items() const {
  expect(JsonKind::kArray, "an array");
  return Items(*this);
}

JsonField::Members JsonField::members() const {
  expect(JsonKind::kObject, "an object");
  return Members(*this);
}

std::optional<JsonField> JsonField::find(std::string_view name) const {
  for (const auto [member, value] : members()) {
    if (member == name && !value.is_null()) return value;
  }
  return std::nullopt;
}

JsonField JsonField::at(std::string_view name) const {
  const auto value = find(name);
  if (!value) fail(fmt::format("has no {}", quote(name)));
  return *value;
}

bool JsonField::flag(std::string_view name, bool fallback) const {
  const auto value = find(name);
  return value ? value->boolean() : fallback;
}

void JsonField::expect_only(std::initializer_list<std::string_view> names) const {
  for (const auto [name, value] : members()) {
    if (!value.is_null() && std::ranges::find(names, name) == names.end()) {
      value.fail("is not known here, and might change the result");
    }
  }
}

std::string read_text_file(const std::string& path) {
  // A folder can be opened, and says that it is as large as can be.
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    throw IoError(fmt::format("cannot read {}: it is a folder", path));
  }
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto fail = [&] {
    throw IoError(fmt::format("cannot read {}: {}", path, std::generic_category().message(errno)));
  };
  if (!file) fail();
  const auto size = static_cast<std::streamoff>(file.tellg());
  if (size < 0) fail();
  std::string text(static_cast<std::size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(text.data(), size)) fail();
  return text;
}

}  // namespace metal_candle::tokenizers
