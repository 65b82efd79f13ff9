// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The "post_processor" section of a tokenizer.json: the special tokens around a text.
#pragma once

#include <cstdint>
#include <vector>

#include "metal_candle/io/tokenizer/json.h"

namespace metal_candle::tokenizers {

/// Immutable once read, thread safe.
class PostProcessor {
 public:
  PostProcessor() = default;
  /// Throws FormatError for what is malformed, for types that are not supported, and for templates
  /// of single texts that name a second text, or a special token whose ids are not below `id_end`.
  PostProcessor(const JsonField& json, std::int32_t id_end) { read(json, id_end); }

  [[nodiscard]] std::vector<std::int32_t> apply(std::vector<std::int32_t> ids,
                                                bool add_special_tokens) const;

 private:
  // A part of a template: the text, or special tokens.
  struct Piece {
    bool is_text;
    std::vector<std::int32_t> ids;
  };

  void read(const JsonField& json, std::int32_t id_end);
  static Piece read_token(const JsonField& json, std::int32_t id_end);
  void read_template(const JsonField& json, std::int32_t id_end);

  std::vector<std::vector<Piece>> templates_;  // applied one after the other
};

}  // namespace metal_candle::tokenizers
