// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Memory of the CPU backend: a pool of freed blocks by size class, so that a loop touches the same
// warm pages again instead of faulting in new ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "metal_candle/backend/backend.h"

namespace metal_candle::backend::cpu {

class CpuAllocator {
 public:
  CpuAllocator();
  BufferPtr allocate(std::size_t bytes);
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
  class PooledBuffer;
  static constexpr int kNumClasses = 512;
  [[nodiscard]] static int size_class(std::size_t block);
  void release(void* block, std::size_t size);
  void free_cached_locked();

  mutable std::mutex mutex_;
  std::vector<std::vector<void*>> free_;  // By size class.
  MemoryStatistics statistics_;
  std::size_t cache_limit_;
  std::int64_t fail_countdown_ = -1;
};

}  // namespace metal_candle::backend::cpu
