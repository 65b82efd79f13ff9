// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Byte pair encoding: a word starts as its characters, and the pair of neighbours that was merged
// first in training becomes one token, until no pair is left that merges.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/io/tokenizer/json.h"
#include "metal_candle/io/tokenizer/merge_table.h"
#include "metal_candle/io/tokenizer/model.h"
#include "metal_candle/io/tokenizer/vocabulary.h"
#include "metal_candle/io/tokenizer/word_cache.h"

namespace metal_candle::tokenizers {

/// The "BPE" model of tokenizer.json.
class Bpe final : public Model {
 public:
  /// Throws FormatError.
  Bpe(const JsonField& json, bool words_are_bytes);

  void encode(std::string_view word, std::vector<std::int32_t>& ids) const override;
  [[nodiscard]] const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  void read_unknown(const JsonField& json);
  void read_merges(const JsonField& json);
  void add_merge(const JsonField& json, std::string_view left, std::string_view right,
                 std::uint32_t rank);
  void encode_part(std::string_view word, std::vector<std::int32_t>& ids) const;
  void split(std::string_view word, std::vector<std::int32_t>& ids) const;
  // The tokens of the characters of `word`, before any merge.
  void append_symbols(std::string_view word, std::vector<std::int32_t>& symbols) const;
  [[nodiscard]] std::int32_t character_id(std::string_view character) const;
  bool append_byte_tokens(std::string_view character, std::vector<std::int32_t>& symbols) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  bool words_are_bytes_;
  bool byte_fallback_;
  bool fuse_unknown_;
  bool ignore_merges_;
  bool merges_across_metaspace_ = false;
  // Whether a word may be split before each run of U+2581 without changing its tokens.
  bool split_at_metaspace_ = false;
  std::int32_t unknown_id_ = kNoToken;
  // What is wrong if there is to be an unknown token and the vocabulary has none of that name.
  std::string unknown_error_;
  std::array<std::int32_t, 128> ascii_ids_{};
  std::array<std::int32_t, 256> byte_ids_{};  // of the tokens <0x00> to <0xFF>
  mutable WordCache cache_;
};

}  // namespace metal_candle::tokenizers
