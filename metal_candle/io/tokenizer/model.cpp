// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/model.h"

#include <fmt/format.h>

#include "metal_candle/io/quote.h"
#include "metal_candle/io/tokenizer/bpe.h"
#include "metal_candle/io/tokenizer/word_piece.h"

namespace metal_candle::tokenizers {

std::unique_ptr<const Model> read_model(const JsonField& json, bool words_are_bytes) {
  const auto type = json.find("type");
  // The oldest files do not name the type. What has merges is BPE.
  if (!type && !json.find("merges")) json.fail("has neither a type nor merges");
  if (!type || type->string() == "BPE") return std::make_unique<Bpe>(json, words_are_bytes);
  if (type->string() != "WordPiece") {
    type->fail(fmt::format("model {} is not supported; supported are BPE and WordPiece",
                           quote(type->string())));
  }
  if (words_are_bytes) type->fail("WordPiece after a ByteLevel pre-tokenizer is not supported");
  return std::make_unique<WordPiece>(json);
}

}  // namespace metal_candle::tokenizers
