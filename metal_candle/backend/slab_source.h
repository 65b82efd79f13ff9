// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Blocks cut from larger ones, for drivers that take long over each.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

#include "metal_candle/backend/pool_allocator.h"
#include "metal_candle/core/gaps.h"

namespace metal_candle::backend {

/// Cuts small and medium blocks from slabs; large ones come from the source below as they are. A
/// slab of which nothing is in use goes back at once. Blocks that are given back must not be in use
/// by a device. Thread safe.
class SlabSource final : public BlockSource {
 public:
  /// `below` gives blocks that are aligned to kAlignment.
  explicit SlabSource(BlockSource& below) : below_(below) {}
  void* obtain(std::size_t size) override;
  void give_back(void* block) override;
  /// Takes a slab of each kind, where there is none yet and there is memory, so that the first
  /// blocks do not wait for it. It goes back where memory runs out before it is used.
  void prepare();

  static constexpr std::size_t kAlignment = 256;
  // Small blocks are often long-lived: among others they would keep large slabs.
  static constexpr std::size_t kLargestSmall = std::size_t{512} << 10;
  static constexpr std::size_t kSmallSlab = std::size_t{4} << 20;
  static constexpr std::size_t kLargestMedium = std::size_t{8} << 20;
  static constexpr std::size_t kMediumSlab = std::size_t{32} << 20;
  // What is left over at the end of a slab, and of the last one, is a small part of them all.
  static constexpr std::size_t kLargestSlab = std::size_t{256} << 20;
  static constexpr std::size_t kPartOfAll = 8;

 private:
  struct Slab {
    std::size_t size = 0;
    Gaps free;
    std::map<std::size_t, std::size_t> used;  // Bytes by offset.
  };
  using Slabs = std::map<std::byte*, Slab>;
  struct Kind {
    std::size_t slab_size;
    Slabs slabs = {};
    std::size_t total = 0;  // Bytes of the slabs.
  };

  void* cut(Kind& kind, std::size_t size);
  bool add_slab(Kind& kind);
  bool drop_unused(Kind& kind);
  bool give_back_to(Kind& kind, std::byte* block);

  BlockSource& below_;
  std::mutex mutex_;
  Kind small_{kSmallSlab};
  Kind medium_{kMediumSlab};
};

}  // namespace metal_candle::backend
