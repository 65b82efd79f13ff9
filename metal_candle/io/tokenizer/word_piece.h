// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// WordPiece, the model of BERT and of most models that embed text: a word is the longest token that
// it begins with, then the longest that goes on, and so forth; or one unknown token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/io/tokenizer/json.h"
#include "metal_candle/io/tokenizer/model.h"
#include "metal_candle/io/tokenizer/vocabulary.h"

namespace metal_candle::tokenizers {

/// The "WordPiece" model of tokenizer.json.
class WordPiece final : public Model {
 public:
  /// Throws FormatError, also if the vocabulary has no unknown token.
  explicit WordPiece(const JsonField& json);

  void encode(std::string_view word, std::vector<std::int32_t>& ids) const override;
  [[nodiscard]] const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  // Appends the tokens; false, perhaps after some of them, if part of the word has none.
  bool split(std::string_view word, std::vector<std::int32_t>& ids) const;

  Vocabulary vocabulary_;
  std::string prefix_;  // of tokens that do not begin a word
  std::size_t most_characters_;
  std::int32_t unknown_id_;
};

}  // namespace metal_candle::tokenizers
