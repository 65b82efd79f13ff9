// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The "added_tokens" of a tokenizer.json: tokens, special ones among them, that are found in a text
// before anything else is done to it, so that no merge touches them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "metal_candle/io/tokenizer/json.h"
#include "metal_candle/io/tokenizer/normalizer.h"
#include "metal_candle/io/tokenizer/pattern.h"
#include "metal_candle/io/tokenizer/vocabulary.h"

namespace metal_candle::tokenizers {

struct AddedToken {
  std::string content;
  /// What is looked for: the content, normalized if the token is looked for in normalized text.
  std::string pattern;
  std::int32_t id;
  bool single_word;
  bool strip_left;
  bool strip_right;
  bool normalized;
  bool special;
};

/// A part of a text: an added token, or what is between (`token` is kNoToken).
struct Segment {
  Range range;
  std::int32_t token;
};

/// Strings by their bytes, to find the longest that a text begins with.
class StringTrie {
 public:
  StringTrie() : nodes_(1) {}
  /// False if the string is there already.
  bool insert(std::string_view string, std::uint32_t value);
  /// The size of the longest string that `text` begins with, and its value; size 0 if there is
  /// none.
  [[nodiscard]] std::pair<std::size_t, std::uint32_t> longest(std::string_view text) const;

 private:
  static constexpr std::uint32_t kNoValue = UINT32_MAX;

  struct Node {
    std::uint32_t value = kNoValue;
    std::vector<std::pair<char, std::uint32_t>> children;
  };

  [[nodiscard]] std::uint32_t child(std::uint32_t node, char byte) const;  // 0: none

  std::vector<Node> nodes_;
  std::array<bool, 256> first_{};  // bytes that a string begins with
};

/// Immutable once read, thread safe.
class AddedTokens {
 public:
  AddedTokens() = default;
  /// `normalizer` may be null. Throws FormatError for what is malformed, and for ids that
  /// contradict the vocabulary or each other.
  AddedTokens(const JsonField& json, const Vocabulary& vocabulary, const Normalizer* normalizer);

  /// Cuts `text` at the tokens that are looked for in normalized text, or at the others. Those that
  /// are special are passed over unless `recognize_special`.
  [[nodiscard]] std::vector<Segment> split(std::string_view text, bool normalized,
                                           bool recognize_special) const;

  /// Null if there is none.
  [[nodiscard]] const AddedToken* find(std::string_view content) const;
  [[nodiscard]] const AddedToken* find(std::int32_t id) const;
  /// One more than the largest id.
  [[nodiscard]] std::int32_t id_end() const { return id_end_; }

 private:
  void add(const JsonField& json, const Vocabulary& vocabulary, const Normalizer* normalizer);

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::int32_t, std::uint32_t> by_id_;
  StringTrie contents_;
  StringTrie raw_;
  StringTrie normalized_;
  std::int32_t id_end_ = 0;
};

}  // namespace metal_candle::tokenizers
