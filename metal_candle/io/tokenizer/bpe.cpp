// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/core/error.h"
#include "metal_candle/io/quote.h"
#include "metal_candle/io/tokenizer/byte_level.h"
#include "metal_candle/io/tokenizer/merge_symbols.h"
#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::tokenizers {
namespace {

constexpr std::string_view kMetaspace = "\u2581";

// Where the first run of metaspaces after the first one begins; the end if there is none.
std::size_t next_metaspace_run(std::string_view word) {
  std::size_t i = 0;
  while ((i = word.find(kMetaspace, i)) != std::string_view::npos) {
    if (i > 0 && !word.substr(0, i).ends_with(kMetaspace)) return i;
    i += kMetaspace.size();
  }
  return word.size();
}

void refuse_unsupported(const JsonField& json) {
  json.expect_only({"type", "dropout", "unk_token", "continuing_subword_prefix",
                    "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab",
                    "merges"});
  const auto dropout = json.find("dropout");
  const bool no_dropout = !dropout || dropout->is_zero();
  if (!no_dropout) dropout->fail("would make encoding random; it must be null or 0");
  for (const std::string_view name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto affix = json.find(name);
    if (affix && !affix->string().empty()) affix->fail("is not supported by BPE here");
  }
}

}  // namespace

Bpe::Bpe(const JsonField& json, bool words_are_bytes)
    : vocabulary_(json.at("vocab")),
      merges_(json.at("merges").size()),
      words_are_bytes_(words_are_bytes),
      byte_fallback_(json.flag("byte_fallback", false)),
      fuse_unknown_(json.flag("fuse_unk", false)),
      ignore_merges_(json.flag("ignore_merges", false)) {
  refuse_unsupported(json);
  read_unknown(json);
  for (std::size_t i = 0; i < ascii_ids_.size(); ++i) {
    ascii_ids_[i] = vocabulary_.find(std::string(1, static_cast<char>(i)));
  }
  for (std::size_t i = 0; i < byte_ids_.size(); ++i) {
    byte_ids_[i] = vocabulary_.find(fmt::format("<0x{:02X}>", i));
  }
  read_merges(json.at("merges"));
  split_at_metaspace_ =
      !ignore_merges_ && !merges_across_metaspace_ && vocabulary_.find(kMetaspace) != kNoToken;
}

void Bpe::read_unknown(const JsonField& json) {
  const auto token = json.find("unk_token");
  if (!token) return;
  unknown_id_ = vocabulary_.find(token->string());
  // Byte-level files name one that never occurs, so this is an error only where it is needed.
  if (unknown_id_ == kNoToken) {
    unknown_error_ = token->message(fmt::format(
        "{} is needed for a character and not in the vocabulary", quote(token->string())));
  }
  // It merges like a token that it is called like, wherever it stands.
  if (token->string().find(kMetaspace) != std::string_view::npos) merges_across_metaspace_ = true;
}

void Bpe::read_merges(const JsonField& json) {
  std::uint32_t rank = 0;
  for (const JsonField merge : json.items()) {
    if (merge.is_array()) {
      if (merge.size() != 2) merge.fail("is not a pair of tokens");
      const JsonField left = *merge.items().begin();
      const JsonField right = *++merge.items().begin();
      add_merge(merge, left.string(), right.string(), rank++);
      continue;
    }
    const std::string_view text = merge.string();
    if (text.starts_with("#version")) continue;  // the first line of a merges.txt
    const auto space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      merge.fail(fmt::format("{} is not two tokens with a space between", quote(text)));
    }
    add_merge(merge, text.substr(0, space), text.substr(space + 1), rank++);
  }
}

void Bpe::add_merge(const JsonField& json, std::string_view left, std::string_view right,
                    std::uint32_t rank) {
  const auto id_of = [&](std::string_view token) {
    const std::int32_t id = vocabulary_.find(token);
    if (id == kNoToken) json.fail(fmt::format("{} is not in the vocabulary", quote(token)));
    return id;
  };
  const std::int32_t left_id = id_of(left);
  const std::int32_t right_id = id_of(right);
  const std::string merged = std::string(left).append(right);
  merges_.insert(left_id, right_id, {rank, id_of(merged)});
  if (next_metaspace_run(merged) != merged.size()) merges_across_metaspace_ = true;
}

void Bpe::encode(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (!split_at_metaspace_) {
    encode_part(word, ids);
    return;
  }
  while (!word.empty()) {
    const std::size_t size = next_metaspace_run(word);
    encode_part(word.substr(0, size), ids);
    word.remove_prefix(size);
  }
}

void Bpe::encode_part(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (cache_.find(word, ids)) return;
  const auto size_before = static_cast<std::ptrdiff_t>(ids.size());
  if (words_are_bytes_) {
    std::string mapped;
    mapped.reserve(word.size() * 2);
    append_byte_level(mapped, word);
    split(mapped, ids);
  } else {
    split(word, ids);
  }
  cache_.insert(word, {ids.begin() + size_before, ids.end()});
}

void Bpe::split(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (ignore_merges_) {
    const std::int32_t id = vocabulary_.find(word);
    if (id != kNoToken) {
      ids.push_back(id);
      return;
    }
  }
  std::vector<std::int32_t> symbols;
  symbols.reserve(word.size());
  append_symbols(word, symbols);
  merge_symbols(merges_, symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

void Bpe::append_symbols(std::string_view word, std::vector<std::int32_t>& symbols) const {
  // An unknown token is put off until the next known character, so that unknown ones fuse. Byte
  // tokens do not count as known: they overtake it, as they do in Hugging Face's.
  bool unknown_pending = false;
  const auto flush = [&] {
    if (unknown_pending) symbols.push_back(unknown_id_);
    unknown_pending = false;
  };
  while (!word.empty()) {
    const std::string_view character = word.substr(0, first_character(word).size);
    word.remove_prefix(character.size());
    const std::int32_t id = character_id(character);
    if (id != kNoToken) {
      flush();
      symbols.push_back(id);
    } else if (!(byte_fallback_ && append_byte_tokens(character, symbols))) {
      if (!unknown_error_.empty()) throw FormatError(unknown_error_);
      if (!fuse_unknown_) flush();
      unknown_pending = unknown_id_ != kNoToken;
    }
  }
  flush();
}

std::int32_t Bpe::character_id(std::string_view character) const {
  if (character.size() == 1) return ascii_ids_[static_cast<std::uint8_t>(character[0])];
  return vocabulary_.find(character);
}

bool Bpe::append_byte_tokens(std::string_view character, std::vector<std::int32_t>& symbols) const {
  const auto id_of = [&](char byte) { return byte_ids_[static_cast<std::uint8_t>(byte)]; };
  if (std::ranges::find(character, kNoToken, id_of) != character.end()) return false;
  std::ranges::transform(character, std::back_inserter(symbols), id_of);
  return true;
}

}  // namespace metal_candle::tokenizers
