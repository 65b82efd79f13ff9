// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Which steps may run at once: an encoder runs what is put into it concurrently, but for barriers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace metal_candle::backend::metal {

/// Bytes [begin, end) of the device's address space.
struct AddressRange {
  std::uint64_t begin = 0, end = 0;
};

/// What steps read and write since the last barrier.
class Hazards {
 public:
  /// Whether a step has to wait for one of those since the last barrier: it reads what they write,
  /// or writes what they read or write.
  [[nodiscard]] bool conflict(std::span<const AddressRange> reads,
                              std::span<const AddressRange> writes) const {
    return overlap(writes_, reads) || overlap(writes_, writes) || overlap(reads_, writes) ||
           reads_.size() + writes_.size() > kMost;
  }
  void add(std::span<const AddressRange> reads, std::span<const AddressRange> writes) {
    reads_.insert(reads_.end(), reads.begin(), reads.end());
    writes_.insert(writes_.end(), writes.begin(), writes.end());
  }
  /// A barrier.
  void clear() {
    reads_.clear();
    writes_.clear();
  }

 private:
  // So that looking stays cheap: more steps at once do not make a GPU any fuller.
  static constexpr std::size_t kMost = 256;

  static bool overlap(std::span<const AddressRange> a, std::span<const AddressRange> b) {
    for (const AddressRange& x : a) {
      for (const AddressRange& y : b) {
        if (x.begin < y.end && y.begin < x.end) return true;
      }
    }
    return false;
  }

  std::vector<AddressRange> reads_, writes_;
};

}  // namespace metal_candle::backend::metal
