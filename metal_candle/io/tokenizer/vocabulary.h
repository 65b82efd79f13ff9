// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tokens and their ids: the "vocab" object of a tokenizer.json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/io/tokenizer/json.h"

namespace metal_candle::tokenizers {

/// What is no id.
inline constexpr std::int32_t kNoToken = -1;
/// No vocabulary is nearly as large. A file that says otherwise must not make us allocate for it.
inline constexpr std::int32_t kLargestId = (1 << 24) - 1;

/// Immutable, thread safe. Ids may have holes, as they may in Hugging Face's.
class Vocabulary {
 public:
  /// Throws FormatError naming the token for ids out of range and for tokens or ids that occur
  /// twice.
  explicit Vocabulary(const JsonField& vocab);

  /// The token's id, or kNoToken.
  [[nodiscard]] std::int32_t find(std::string_view token) const;
  [[nodiscard]] std::optional<std::string_view> token(std::int32_t id) const;
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  /// The bytes of the longest token.
  [[nodiscard]] std::size_t longest() const { return longest_; }
  /// One more than the largest id.
  [[nodiscard]] std::int32_t id_end() const { return static_cast<std::int32_t>(by_id_.size()); }

 private:
  struct Entry {
    std::uint32_t begin;  // in text_
    std::uint32_t size;
    std::uint32_t hash;
    std::int32_t id;
  };

  [[nodiscard]] std::string_view text(const Entry& entry) const {
    return std::string_view(text_).substr(entry.begin, entry.size);
  }
  // The slot that holds the token, or the empty one where it would be.
  [[nodiscard]] std::size_t slot(std::string_view token, std::uint32_t hash) const;
  void put_id(std::int32_t id, std::uint32_t entry, const JsonField& field);

  std::string text_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> slots_;  // open addressing: indices of entries
  std::vector<std::uint32_t> by_id_;  // indices of entries
  std::size_t longest_ = 0;
};

}  // namespace metal_candle::tokenizers
