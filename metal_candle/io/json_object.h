// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A JSON object read from a file, with errors that name the file and the key, and an account of
// which keys were read: a setting that nobody looked at may change a result.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace metal_candle {

/// A JSON object. Reading marks a key as read; null counts as missing. All getters throw
/// FormatError naming the file, the key and what was found when the value has another type. Copies
/// share the account. Not thread safe.
class JsonObject {
 public:
  /// Reads a file that holds one object. Throws IoError, FormatError.
  static JsonObject read(const std::string& path);
  /// The same from text; `name` stands for the file in errors.
  static JsonObject parse(std::string_view text, std::string name);

  [[nodiscard]] bool has(std::string_view key) const;
  /// Whether there is such a key at all, null or not. Neither marks it as read.
  [[nodiscard]] bool contains(std::string_view key) const;

  // Required: FormatError if missing.
  [[nodiscard]] std::int64_t integer(std::string_view key) const;
  [[nodiscard]] double number(std::string_view key) const;
  [[nodiscard]] bool boolean(std::string_view key) const;
  [[nodiscard]] std::string string(std::string_view key) const;
  [[nodiscard]] JsonObject object(std::string_view key) const;
  [[nodiscard]] std::vector<JsonObject> objects(std::string_view key) const;
  [[nodiscard]] std::vector<std::string> strings(std::string_view key) const;
  [[nodiscard]] std::vector<std::int64_t> integers(std::string_view key) const;
  [[nodiscard]] std::vector<double> numbers(std::string_view key) const;

  // With a value for when it is missing.
  [[nodiscard]] std::int64_t integer(std::string_view key, std::int64_t otherwise) const;
  [[nodiscard]] double number(std::string_view key, double otherwise) const;
  [[nodiscard]] bool boolean(std::string_view key, bool otherwise) const;
  [[nodiscard]] std::string string(std::string_view key, std::string otherwise) const;

  /// What kind of value a key has: "null" (also when missing), "boolean", "number", "string",
  /// "array" or "object". Does not mark it as read.
  [[nodiscard]] std::string_view type(std::string_view key) const;
  /// All keys, in lexicographic order.
  [[nodiscard]] std::vector<std::string> keys() const;

  /// Marks keys as read: they are known to change nothing.
  void ignore(std::initializer_list<std::string_view> keys) const;
  /// "config.json: rope_scaling.factor": the place of a key, for errors.
  [[nodiscard]] std::string where(std::string_view key) const;
  /// Keys that hold something (not null, false, or empty) and were never read, nested ones as
  /// "rope_scaling.factor". An object that was never asked for is one key.
  [[nodiscard]] std::vector<std::string> unread() const;

 private:
  struct Document;
  JsonObject(std::shared_ptr<Document> document, std::string prefix, const void* value);
  [[nodiscard]] const void* find(std::string_view key) const;
  [[nodiscard]] const void* require(std::string_view key) const;

  std::shared_ptr<Document> document_;
  std::string prefix_;  // "rope_scaling." for a nested object.
  const void* value_;   // In document_.
};

}  // namespace metal_candle
