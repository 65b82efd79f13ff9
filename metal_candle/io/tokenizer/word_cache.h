// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The tokens of words met before. Most words of a text are, and splitting one costs a hundred times
// what looking it up does.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace metal_candle::tokenizers {

/// Thread safe, without locks: an entry is written once and then only read. A full cache takes no
/// more words; the frequent ones came early.
class WordCache {
 public:
  WordCache();

  /// Appends the word's tokens if they are known.
  bool find(std::string_view word, std::vector<std::int32_t>& ids) const;
  /// Keeps the word if it is short and there is room.
  void insert(std::string_view word, std::span<const std::int32_t> ids);

 private:
  // A cache line.
  struct alignas(64) Slot {
    std::atomic<std::uint32_t> state;  // kEmpty, kBusy, or the tag of the word that is here
    std::uint8_t word_size;
    std::uint8_t id_count;
    std::array<char, 26> word;
    std::array<std::int32_t, 8> ids;
  };
  static_assert(sizeof(Slot) == 64);

  static constexpr std::size_t kSlots = std::size_t{1} << 15U;
  // How many slots after that of its hash a word may be in.
  static constexpr std::size_t kProbes = 4;

  std::unique_ptr<Slot[]> slots_;  // kSlots + kProbes
};

}  // namespace metal_candle::tokenizers
