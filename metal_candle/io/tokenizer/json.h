// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// JSON documents whose every error names the file and the key. A document is flat in memory, so
// that one of half a million strings is read and freed in no time; nothing here recurses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace metal_candle::tokenizers {

enum class JsonKind : std::uint8_t { kNull, kBoolean, kInteger, kReal, kString, kArray, kObject };

class JsonField;

/// Immutable, thread safe. The fields below refer to their document and must not outlive it.
class JsonDocument {
 public:
  /// Throws FormatError naming `file` and the position if `text` is no JSON document, nests more
  /// than 100 deep, or names a member of an object twice (looked for in objects of up to 100
  /// members; larger ones are vocabularies, whose readers check that).
  static JsonDocument parse(std::string_view text, std::string file);

  [[nodiscard]] JsonField root() const;
  [[nodiscard]] const std::string& file() const { return file_; }

 private:
  friend class JsonField;
  friend class JsonBuilder;

  // A value; those below it follow, those of an object each after a string that names it.
  struct Node {
    JsonKind kind;
    std::uint32_t size;  // bytes of a string, values in an array or object
    std::uint32_t next;  // the node after this value and all below it
    std::uint64_t bits;  // the boolean, integer or real, or where in strings_ the string begins
  };

  std::string file_;
  std::string strings_;
  std::vector<Node> nodes_;
};

/// One value of a document. A handle of two words.
class JsonField {
 public:
  class Items;
  class Members;

  /// "<file>: <path of this value>: <complaint>".
  [[nodiscard]] std::string message(std::string_view complaint) const;
  /// Throws FormatError with that message.
  [[noreturn]] void fail(std::string_view complaint) const;

  [[nodiscard]] JsonKind kind() const { return node().kind; }
  [[nodiscard]] bool is_null() const { return kind() == JsonKind::kNull; }
  /// The number 0 or 0.0.
  [[nodiscard]] bool is_zero() const;
  [[nodiscard]] bool is_string() const { return kind() == JsonKind::kString; }
  [[nodiscard]] bool is_array() const { return kind() == JsonKind::kArray; }
  [[nodiscard]] bool is_object() const { return kind() == JsonKind::kObject; }

  /// Each throws FormatError if the value is of another kind; integer() also if it is not in
  /// [low, high].
  [[nodiscard]] std::string_view string() const;
  [[nodiscard]] bool boolean() const;
  [[nodiscard]] std::int64_t integer(std::int64_t low, std::int64_t high) const;
  [[nodiscard]] Items items() const;
  [[nodiscard]] Members members() const;
  /// Of an array or object.
  [[nodiscard]] std::size_t size() const { return node().size; }

  /// A member of an object. Null counts as missing. at() throws FormatError if it is missing.
  [[nodiscard]] std::optional<JsonField> find(std::string_view name) const;
  [[nodiscard]] JsonField at(std::string_view name) const;
  /// A boolean member; `fallback` if it is missing.
  [[nodiscard]] bool flag(std::string_view name, bool fallback) const;
  /// Throws FormatError if the object has a member, other than null, that is not among `names`.
  void expect_only(std::initializer_list<std::string_view> names) const;

 private:
  friend class JsonDocument;

  JsonField(const JsonDocument& document, std::uint32_t index)
      : document_(&document), index_(index) {}
  [[nodiscard]] const JsonDocument::Node& node() const { return document_->nodes_[index_]; }
  [[nodiscard]] std::string_view text() const {
    return std::string_view(document_->strings_).substr(node().bits, node().size);
  }
  [[nodiscard]] std::string path() const;
  void expect(JsonKind kind, std::string_view name) const;

  const JsonDocument* document_;
  std::uint32_t index_;
};

/// The values of an array, in order.
class JsonField::Items {
 public:
  class Iterator {
   public:
    explicit Iterator(JsonField field) : field_(field) {}
    JsonField operator*() const { return field_; }
    Iterator& operator++() {
      field_.index_ = field_.node().next;
      return *this;
    }
    bool operator==(const Iterator& other) const { return field_.index_ == other.field_.index_; }

   private:
    JsonField field_;
  };

  explicit Items(JsonField array) : array_(array) {}
  [[nodiscard]] Iterator begin() const {
    return Iterator(JsonField(*array_.document_, array_.index_ + 1));
  }
  [[nodiscard]] Iterator end() const {
    return Iterator(JsonField(*array_.document_, array_.node().next));
  }

 private:
  JsonField array_;
};

/// The members of an object with their names, in the order of the document.
class JsonField::Members {
 public:
  class Iterator {
   public:
    explicit Iterator(JsonField name) : name_(name) {}
    std::pair<std::string_view, JsonField> operator*() const {
      return {name_.text(), JsonField(*name_.document_, name_.index_ + 1)};
    }
    Iterator& operator++() {
      name_.index_ = name_.document_->nodes_[name_.index_ + 1].next;
      return *this;
    }
    bool operator==(const Iterator& other) const { return name_.index_ == other.name_.index_; }

   private:
    JsonField name_;
  };

  explicit Members(JsonField object) : object_(object) {}
  [[nodiscard]] Iterator begin() const {
    return Iterator(JsonField(*object_.document_, object_.index_ + 1));
  }
  [[nodiscard]] Iterator end() const {
    return Iterator(JsonField(*object_.document_, object_.node().next));
  }

 private:
  JsonField object_;
};

/// The whole file. Throws IoError naming it and the system's reason.
[[nodiscard]] std::string read_text_file(const std::string& path);

}  // namespace metal_candle::tokenizers
