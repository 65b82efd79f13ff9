// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <functional>

#include "metal_candle/io/quote.h"

namespace metal_candle::tokenizers {
namespace {

constexpr std::uint32_t kEmpty = UINT32_MAX;

std::uint32_t hash_of(std::string_view token) {
  return static_cast<std::uint32_t>(std::hash<std::string_view>{}(token));
}

}  // namespace

Vocabulary::Vocabulary(const JsonField& vocab) {
  if (!vocab.is_object()) vocab.fail("is not an object of tokens with their ids");
  entries_.reserve(vocab.size());
  slots_.assign(std::bit_ceil(vocab.size() * 2 + 1), kEmpty);
  by_id_.reserve(vocab.size());
  for (const auto [token, id_field] : vocab.members()) {
    const auto id = static_cast<std::int32_t>(id_field.integer(0, kLargestId));
    const std::uint32_t hash = hash_of(token);
    std::uint32_t& slot_of_token = slots_[slot(token, hash)];
    if (slot_of_token != kEmpty) id_field.fail("the token occurs twice");
    slot_of_token = static_cast<std::uint32_t>(entries_.size());
    put_id(id, slot_of_token, id_field);
    entries_.push_back({static_cast<std::uint32_t>(text_.size()),
                        static_cast<std::uint32_t>(token.size()), hash, id});
    text_ += token;
    longest_ = std::max(longest_, token.size());
  }
}

void Vocabulary::put_id(std::int32_t id, std::uint32_t entry, const JsonField& field) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= by_id_.size()) by_id_.resize(index + 1, kEmpty);
  if (by_id_[index] != kEmpty) {
    field.fail(fmt::format("id {} is also that of {}", id, quote(text(entries_[by_id_[index]]))));
  }
  by_id_[index] = entry;
}

std::size_t Vocabulary::slot(std::string_view token, std::uint32_t hash) const {
  std::size_t i = hash & (slots_.size() - 1);
  while (slots_[i] != kEmpty) {
    const Entry& entry = entries_[slots_[i]];
    if (entry.hash == hash && text(entry) == token) break;
    i = (i + 1) & (slots_.size() - 1);
  }
  return i;
}

std::int32_t Vocabulary::find(std::string_view token) const {
  const std::uint32_t entry = slots_[slot(token, hash_of(token))];
  return entry == kEmpty ? kNoToken : entries_[entry].id;
}

std::optional<std::string_view> Vocabulary::token(std::int32_t id) const {
  if (id < 0 || id >= id_end() || by_id_[static_cast<std::size_t>(id)] == kEmpty) return {};
  return text(entries_[by_id_[static_cast<std::size_t>(id)]]);
}

}  // namespace metal_candle::tokenizers
