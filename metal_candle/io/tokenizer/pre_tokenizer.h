// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The "pre_tokenizer" section of a tokenizer.json: how a text is cut into the words that the model
// splits into tokens.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "metal_candle/io/tokenizer/json.h"
#include "metal_candle/io/tokenizer/normalizer.h"
#include "metal_candle/io/tokenizer/pattern.h"

namespace metal_candle::tokenizers {

/// A text and the words it has been cut into so far: pieces of it, none empty.
struct Words {
  std::string text;
  std::vector<Range> ranges;
  /// Whether the first range begins where the whole text that is encoded does.
  bool at_origin = false;

  explicit Words(NormalizedText&& whole) : text(std::move(whole.text)), at_origin(whole.at_origin) {
    if (!text.empty()) ranges.push_back({0, text.size()});
  }
};

/// Immutable, thread safe.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;
  virtual ~PreTokenizer() = default;

  virtual void apply(Words& words) const = 0;
};

/// A pre-tokenizer, and whether the model is to spell its words in the byte-level alphabet: the
/// last thing that byte-level BPE does, and nothing that a known word needs.
struct ReadPreTokenizer {
  std::unique_ptr<const PreTokenizer> pre_tokenizer;
  bool words_are_bytes = false;
};

/// Throws FormatError for what is malformed and for types that are not supported.
[[nodiscard]] ReadPreTokenizer read_pre_tokenizer(const JsonField& json);

}  // namespace metal_candle::tokenizers
