// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/word_piece.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "metal_candle/io/quote.h"
#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::tokenizers {
namespace {

bool is_continuation(char byte) { return (static_cast<std::uint8_t>(byte) & 0xC0U) == 0x80U; }

}  // namespace

WordPiece::WordPiece(const JsonField& json)
    : vocabulary_(json.at("vocab")),
      prefix_(json.at("continuing_subword_prefix").string()),
      most_characters_(
          static_cast<std::size_t>(json.at("max_input_chars_per_word").integer(0, INT32_MAX))) {
  json.expect_only(
      {"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"});
  const JsonField unknown = json.at("unk_token");
  unknown_id_ = vocabulary_.find(unknown.string());
  if (unknown_id_ == kNoToken) {
    unknown.fail(fmt::format("{} is not in the vocabulary", quote(unknown.string())));
  }
}

void WordPiece::encode(std::string_view word, std::vector<std::int32_t>& ids) const {
  const auto characters =
      word.size() - static_cast<std::size_t>(std::ranges::count_if(word, is_continuation));
  const std::size_t size_before = ids.size();
  if (characters <= most_characters_ && split(word, ids)) return;
  ids.resize(size_before);
  ids.push_back(unknown_id_);
}

bool WordPiece::split(std::string_view word, std::vector<std::int32_t>& ids) const {
  std::string piece;
  for (std::size_t begin = 0; begin < word.size();) {
    piece = begin > 0 ? prefix_ : std::string();
    const std::size_t prefix_size = piece.size();
    piece += word.substr(begin, vocabulary_.longest());
    // A character that was cut through is in no token.
    while (begin + piece.size() - prefix_size < word.size() &&
           is_continuation(word[begin + piece.size() - prefix_size])) {
      piece.pop_back();
    }
    std::int32_t id = kNoToken;
    while (piece.size() > prefix_size && (id = vocabulary_.find(piece)) == kNoToken) {
      piece.resize(piece.size() - last_character(piece).size);
    }
    if (id == kNoToken) return false;
    ids.push_back(id);
    begin += piece.size() - prefix_size;
  }
  return true;
}

}  // namespace metal_candle::tokenizers
