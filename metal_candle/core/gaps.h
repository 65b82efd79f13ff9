// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What is free within a block of memory.
#pragma once

#include <cstddef>
#include <map>
#include <optional>

namespace metal_candle {

/// Free ranges of bytes, which do not touch each other: those that do are one. Not thread safe.
class Gaps {
 public:
  /// [offset, offset + length) is free from now on.
  void add(std::size_t offset, std::size_t length);
  /// The length of the smallest gap of so many bytes or more; 0 if there is none.
  [[nodiscard]] std::size_t fit(std::size_t length) const;
  /// Takes so many bytes from the beginning of that gap.
  std::optional<std::size_t> take(std::size_t length);
  /// Takes all of the gap that ends there.
  std::optional<std::size_t> take_before(std::size_t end);

 private:
  using ByOffset = std::map<std::size_t, std::size_t>;  // Offset to length.
  void insert(std::size_t offset, std::size_t length);
  void remove(ByOffset::iterator gap);

  ByOffset by_offset_;
  std::multimap<std::size_t, std::size_t> by_length_;  // Length to offset.
};

}  // namespace metal_candle
