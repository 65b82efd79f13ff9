// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The merges of a BPE model: which pairs of tokens become one, and which pair goes first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace metal_candle::tokenizers {

/// A pair becomes `id`; of several pairs in a word, the one of the lowest rank goes first.
struct Merge {
  std::uint32_t rank;
  std::int32_t id;
};

/// Open addressing, half full at most. Thread safe once filled.
class MergeTable {
 public:
  explicit MergeTable(std::size_t capacity) {
    std::size_t slots = 2;
    while (slots < capacity * 2) slots *= 2;
    slots_.assign(slots, Slot{kEmpty, {}});
  }

  /// A pair that is inserted again keeps the later merge.
  void insert(std::int32_t left, std::int32_t right, Merge merge) {
    const std::uint64_t key = key_of(left, right);
    slots_[find_slot(key)] = {key, merge};
  }

  /// Null if the pair does not merge.
  [[nodiscard]] const Merge* find(std::int32_t left, std::int32_t right) const {
    const Slot& slot = slots_[find_slot(key_of(left, right))];
    return slot.key == kEmpty ? nullptr : &slot.merge;
  }

 private:
  struct Slot {
    std::uint64_t key;
    Merge merge;
  };

  static constexpr std::uint64_t kEmpty = UINT64_MAX;

  // Ids are not negative, so no key is kEmpty.
  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32U |
           static_cast<std::uint32_t>(right);
  }

  [[nodiscard]] std::size_t find_slot(std::uint64_t key) const {
    // 2^64 divided by the golden ratio: multiples are spread evenly.
    std::size_t i = (key * 0x9E3779B97F4A7C15U) >> 32U & (slots_.size() - 1);
    while (slots_[i].key != kEmpty && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
    return i;
  }

  std::vector<Slot> slots_;
};

}  // namespace metal_candle::tokenizers
