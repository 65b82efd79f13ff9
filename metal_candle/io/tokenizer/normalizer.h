// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The "normalizer" section of a tokenizer.json: what is done to a text before it is cut.
#pragma once

#include <memory>
#include <string>

#include "metal_candle/io/tokenizer/json.h"

namespace metal_candle::tokenizers {

/// A piece of the text that is encoded.
struct NormalizedText {
  std::string text;  ///< UTF-8
  /// Whether its first character comes from the first of the whole text. What asks is Metaspace's
  /// prepend_scheme "first".
  bool at_origin = false;
};

/// Immutable, thread safe.
class Normalizer {
 public:
  Normalizer() = default;
  Normalizer(const Normalizer&) = delete;
  Normalizer& operator=(const Normalizer&) = delete;
  virtual ~Normalizer() = default;

  virtual void apply(NormalizedText& text) const = 0;
};

/// Throws FormatError for what is malformed and for types that are not supported.
[[nodiscard]] std::unique_ptr<const Normalizer> read_normalizer(const JsonField& json);

}  // namespace metal_candle::tokenizers
