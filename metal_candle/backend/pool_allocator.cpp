// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See pool_allocator.h.
#include "metal_candle/backend/pool_allocator.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "metal_candle/core/error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace metal_candle::backend {
namespace {

constexpr std::size_t kAlignment = 64;
// Size classes between two powers of two: of small blocks 8, so that at most an eighth of one is
// wasted; of large ones, which are few and matter (weights among them), 64.
constexpr std::size_t kMostClasses = 64;
std::size_t classes_per_doubling(std::size_t bytes) {
  constexpr std::size_t kLarge = std::size_t{4} << 20;
  return bytes >= kLarge ? kMostClasses : 8;
}

// AddressSanitizer knows what malloc() gave out, not what this pool did: it is told that of a block
// only the first `bytes` may be touched.
void restrict_access([[maybe_unused]] void* block, [[maybe_unused]] std::size_t bytes,
                     [[maybe_unused]] std::size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(block, bytes);
  __asan_poison_memory_region(static_cast<std::byte*>(block) + bytes, size - bytes);
#endif
}

}  // namespace

PoolAllocator::PoolAllocator(std::string name, BlockSource& source, bool host_visible,
                             std::size_t limit, std::size_t cache_limit)
    : name_(std::move(name)),
      source_(source),
      host_visible_(host_visible),
      free_(kNumClasses),
      cache_limit_(cache_limit) {
  statistics_.limit = limit;
}

std::size_t PoolAllocator::block_size(std::size_t bytes) {
  if (bytes <= kAlignment) return kAlignment;
  const std::size_t unit =
      std::max(kAlignment, std::bit_ceil(bytes) / (2 * classes_per_doubling(bytes)));
  return (bytes + unit - 1) / unit * unit;
}

int PoolAllocator::size_class(std::size_t block) {
  const auto doubling = static_cast<std::size_t>(std::bit_width(block | kAlignment) - 1);
  const std::size_t classes = classes_per_doubling(block);
  const auto bits = static_cast<std::size_t>(std::bit_width(classes) - 1);
  const std::size_t fraction = (block >> (doubling - bits)) & (classes - 1);
  return static_cast<int>(doubling * kMostClasses + fraction);
}

IntrusivePtr<PoolAllocator::PooledBuffer> PoolAllocator::allocate(std::size_t bytes) {
  // Beyond any address space; also keeps the rounding below from overflowing.
  constexpr std::size_t kMost = std::size_t{1} << 48;
  const std::size_t size = bytes < kMost ? block_size(bytes) : bytes;
  void* block = nullptr;
  {
    const std::lock_guard lock(mutex_);
    ++statistics_.allocations;
    const bool injected = fail_countdown_ == 0;
    if (fail_countdown_ >= 0) --fail_countdown_;
    if (injected || size > statistics_.limit || statistics_.in_use > statistics_.limit - size) {
      throw OutOfMemoryError(
          fmt::format("{}: allocating {} bytes: {} bytes are in use of a limit of {}", name_, bytes,
                      statistics_.in_use, statistics_.limit));
    }
    std::vector<void*>& cached = free_[static_cast<std::size_t>(size_class(size))];
    if (!cached.empty()) {
      block = cached.back();
      cached.pop_back();
      statistics_.cached -= size;
      ++statistics_.pool_hits;
    } else if (size > statistics_.limit - statistics_.in_use -
                          std::min(statistics_.cached, statistics_.limit - statistics_.in_use)) {
      free_cached_locked();
    }
    statistics_.in_use += size;
    statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
  }
  if (block == nullptr) block = source_.obtain(size);
  if (block == nullptr) {
    // What others take of the device is not known here: the cache may be what stands in the way.
    clear_cache();
    block = source_.obtain(size);
  }
  if (block == nullptr) {
    const std::lock_guard lock(mutex_);
    statistics_.in_use -= size;
    throw OutOfMemoryError(fmt::format("{}: the device has no {} bytes; {} bytes are in use here",
                                       name_, bytes, statistics_.in_use));
  }
  if (host_visible_) restrict_access(block, bytes, size);
  return IntrusivePtr<PooledBuffer>(new PooledBuffer(*this, block, bytes, size));
}

void PoolAllocator::release(void* block, std::size_t size) {
  if (host_visible_) restrict_access(block, 0, size);
  {
    const std::lock_guard lock(mutex_);
    statistics_.in_use -= size;
    if (statistics_.cached + size <= cache_limit_) {
      free_[static_cast<std::size_t>(size_class(size))].push_back(block);
      statistics_.cached += size;
      return;
    }
  }
  source_.give_back(block);
}

void PoolAllocator::free_cached_locked() {
  for (std::vector<void*>& blocks : free_) {
    for (void* block : blocks) source_.give_back(block);
    blocks.clear();
  }
  statistics_.cached = 0;
}

MemoryStatistics PoolAllocator::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void PoolAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  statistics_.peak = statistics_.in_use;
}

void PoolAllocator::set_limit(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  statistics_.limit = bytes;
}

void PoolAllocator::clear_cache() {
  const std::lock_guard lock(mutex_);
  free_cached_locked();
}

void PoolAllocator::fail_after(std::int64_t successes) {
  const std::lock_guard lock(mutex_);
  fail_countdown_ = successes;
}

}  // namespace metal_candle::backend
