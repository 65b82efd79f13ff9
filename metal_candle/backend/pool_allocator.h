// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Memory of a backend: a pool of freed blocks by size class, so that a loop uses the same blocks
// again instead of asking the system or the driver for new ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "metal_candle/backend/backend.h"
#include "metal_candle/core/recycled.h"

namespace metal_candle::backend {

/// Where a pool's blocks come from.
class BlockSource {
 public:
  virtual ~BlockSource() = default;
  /// Null when there is none left. `size` is a multiple of 64; blocks are aligned to that at least.
  virtual void* obtain(std::size_t size) = 0;
  virtual void give_back(void* block) = 0;
};

class PoolAllocator {
 public:
  /// What a pool serves.
  class PooledBuffer final : public Buffer, public Recycled<PooledBuffer> {
   public:
    PooledBuffer(PoolAllocator& pool, void* block, std::size_t bytes, std::size_t block_bytes)
        : Buffer(pool.host_visible_ ? block : nullptr, bytes),
          pool_(pool),
          block_(block),
          block_bytes_(block_bytes) {}
    ~PooledBuffer() override { pool_.release(block_, block_bytes_); }
    /// Its address on the device.
    [[nodiscard]] void* block() const { return block_; }

   private:
    PoolAllocator& pool_;
    void* block_;
    std::size_t block_bytes_;
  };

  /// `name` is for errors. At most limit bytes are in use, and cache_limit bytes are kept.
  PoolAllocator(std::string name, BlockSource& source, bool host_visible, std::size_t limit,
                std::size_t cache_limit);
  IntrusivePtr<PooledBuffer> allocate(std::size_t bytes);
  [[nodiscard]] MemoryStatistics statistics() const;
  void reset_peak();
  void set_limit(std::size_t bytes);
  void clear_cache();
  /// Makes the allocation after `successes` more fail, once, as if memory were exhausted. For
  /// tests.
  void fail_after(std::int64_t successes);

  /// Bytes of the block that serves a request.
  [[nodiscard]] static std::size_t block_size(std::size_t bytes);

 private:
  static constexpr int kNumClasses = 4096;
  [[nodiscard]] static int size_class(std::size_t block);
  void release(void* block, std::size_t size);
  void free_cached_locked();

  const std::string name_;
  BlockSource& source_;
  const bool host_visible_;
  mutable std::mutex mutex_;
  std::vector<std::vector<void*>> free_;  // By size class.
  MemoryStatistics statistics_;
  const std::size_t cache_limit_;
  std::int64_t fail_countdown_ = -1;
};

}  // namespace metal_candle::backend
