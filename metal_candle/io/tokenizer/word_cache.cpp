// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/word_cache.h"

#include <algorithm>
#include <functional>

namespace metal_candle::tokenizers {
namespace {

constexpr std::uint32_t kEmpty = 0;
constexpr std::uint32_t kBusy = 1;

struct Place {
  std::size_t first;
  std::uint32_t tag;  // neither kEmpty nor kBusy
};

Place place_of(std::string_view word, std::size_t slots) {
  const std::size_t hash = std::hash<std::string_view>{}(word);
  return {hash & (slots - 1), static_cast<std::uint32_t>(hash >> 32U) | 2U};
}

}  // namespace

WordCache::WordCache() : slots_(std::make_unique<Slot[]>(kSlots + kProbes)) {}

bool WordCache::find(std::string_view word, std::vector<std::int32_t>& ids) const {
  const auto [first, tag] = place_of(word, kSlots);
  for (std::size_t i = first; i < first + kProbes; ++i) {
    const Slot& slot = slots_[i];
    const std::uint32_t state = slot.state.load(std::memory_order_acquire);
    if (state == kEmpty) return false;
    if (state == tag && std::string_view(slot.word.data(), slot.word_size) == word) {
      ids.insert(ids.end(), slot.ids.begin(), slot.ids.begin() + slot.id_count);
      return true;
    }
  }
  return false;
}

void WordCache::insert(std::string_view word, std::span<const std::int32_t> ids) {
  if (word.size() > sizeof(Slot::word) || ids.size() > std::tuple_size_v<decltype(Slot::ids)>) {
    return;
  }
  const auto [first, tag] = place_of(word, kSlots);
  for (std::size_t i = first; i < first + kProbes; ++i) {
    Slot& slot = slots_[i];
    std::uint32_t expected = kEmpty;
    if (!slot.state.compare_exchange_strong(expected, kBusy, std::memory_order_acquire)) continue;
    slot.word_size = static_cast<std::uint8_t>(word.size());
    slot.id_count = static_cast<std::uint8_t>(ids.size());
    std::ranges::copy(word, slot.word.begin());
    std::ranges::copy(ids, slot.ids.begin());
    slot.state.store(tag, std::memory_order_release);
    return;
  }
}

}  // namespace metal_candle::tokenizers
