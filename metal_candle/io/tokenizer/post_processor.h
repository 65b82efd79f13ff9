// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The "post_processor" section of a tokenizer.json: the special tokens around a text.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "metal_candle/io/tokenizer/json.h"

namespace metal_candle::tokenizers {

/// Immutable once read, thread safe.
class PostProcessor {
 public:
  /// Whether there is a token of an id.
  using IsKnown = std::function<bool(std::int32_t id)>;

  PostProcessor() = default;
  /// Throws FormatError for what is malformed, for types that are not supported, and for templates
  /// of single texts that name a second text or special tokens whose ids are not known.
  PostProcessor(const JsonField& json, const IsKnown& is_known) { read(json, is_known); }

  [[nodiscard]] std::vector<std::int32_t> apply(std::vector<std::int32_t> ids,
                                                bool add_special_tokens) const;

 private:
  // A part of a template: the text, or special tokens.
  struct Piece {
    bool is_text;
    std::vector<std::int32_t> ids;
  };

  void read(const JsonField& json, const IsKnown& is_known);
  static Piece read_token(const JsonField& json, const IsKnown& is_known);
  void read_template(const JsonField& json, const IsKnown& is_known);

  std::vector<std::vector<Piece>> templates_;  // applied one after the other
};

}  // namespace metal_candle::tokenizers
