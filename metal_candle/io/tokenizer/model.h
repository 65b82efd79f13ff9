// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What turns a word into tokens, after normalization and pre-tokenization: one class for each
// "model" type of tokenizer.json.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "metal_candle/io/tokenizer/json.h"
#include "metal_candle/io/tokenizer/vocabulary.h"

namespace metal_candle::tokenizers {

/// Immutable to its users, thread safe.
class Model {
 public:
  Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  virtual ~Model() = default;

  /// Appends the tokens of `word`, which is UTF-8 and not empty.
  virtual void encode(std::string_view word, std::vector<std::int32_t>& ids) const = 0;
  [[nodiscard]] virtual const Vocabulary& vocabulary() const = 0;
};

/// The model that the "model" section of a tokenizer.json describes. `words_are_bytes`: words come
/// as they are, while the vocabulary spells them in the byte-level alphabet. Throws FormatError.
[[nodiscard]] std::unique_ptr<const Model> read_model(const JsonField& json, bool words_are_bytes);

}  // namespace metal_candle::tokenizers
