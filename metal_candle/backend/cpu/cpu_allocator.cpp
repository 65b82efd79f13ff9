// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See cpu_allocator.h.
#include "metal_candle/backend/cpu/cpu_allocator.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "metal_candle/core/error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace metal_candle::backend::cpu {
namespace {

constexpr std::size_t kAlignment = 64;
// From here on blocks are aligned for, and ask for, huge pages: a fault for 2 MiB at once.
constexpr std::size_t kHugePage = std::size_t{2} << 20;
// Eight size classes between two powers of two, so at most an eighth of a block is wasted.
constexpr std::size_t kClassesPerDoubling = 8;

std::size_t physical_memory() {
  return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::size_t>(sysconf(_SC_PAGE_SIZE));
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

class CpuAllocator::PooledBuffer final : public Buffer {
 public:
  PooledBuffer(CpuAllocator& allocator, void* block, std::size_t bytes, std::size_t block_size)
      : Buffer(block, bytes), allocator_(allocator), block_size_(block_size) {}
  ~PooledBuffer() override { allocator_.release(contents_, block_size_); }

 private:
  CpuAllocator& allocator_;
  const std::size_t block_size_;
};

CpuAllocator::CpuAllocator() : free_(kNumClasses), cache_limit_(physical_memory() / 8) {
  statistics_.limit = physical_memory();
}

std::size_t CpuAllocator::block_size(std::size_t bytes) {
  if (bytes <= kAlignment) return kAlignment;
  const std::size_t unit = std::max(kAlignment, std::bit_ceil(bytes) / (2 * kClassesPerDoubling));
  return (bytes + unit - 1) / unit * unit;
}

int CpuAllocator::size_class(std::size_t block) {
  const auto doubling = static_cast<std::size_t>(std::bit_width(block | kAlignment) - 1);
  const std::size_t fraction = (block >> (doubling - 3)) & (kClassesPerDoubling - 1);
  return static_cast<int>(doubling * kClassesPerDoubling + fraction);
}

BufferPtr CpuAllocator::allocate(std::size_t bytes) {
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
          fmt::format("cpu: allocating {} bytes: {} bytes are in use of a limit of {}", bytes,
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
  if (block == nullptr) {
    const std::size_t alignment = size >= 2 * kHugePage ? kHugePage : kAlignment;
    const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
    block = std::aligned_alloc(alignment, rounded);
    if (block == nullptr) {
      const std::lock_guard lock(mutex_);
      statistics_.in_use -= size;
      throw OutOfMemoryError(fmt::format(
          "cpu: the system has no {} bytes; {} bytes are in use here", bytes, statistics_.in_use));
    }
    if (alignment == kHugePage) madvise(block, rounded, MADV_HUGEPAGE);
  }
  restrict_access(block, bytes, size);
  return BufferPtr(new PooledBuffer(*this, block, bytes, size));
}

void CpuAllocator::release(void* block, std::size_t size) {
  restrict_access(block, 0, size);
  {
    const std::lock_guard lock(mutex_);
    statistics_.in_use -= size;
    if (statistics_.cached + size <= cache_limit_) {
      free_[static_cast<std::size_t>(size_class(size))].push_back(block);
      statistics_.cached += size;
      return;
    }
  }
  std::free(block);
}

void CpuAllocator::free_cached_locked() {
  for (std::vector<void*>& blocks : free_) {
    for (void* block : blocks) std::free(block);
    blocks.clear();
  }
  statistics_.cached = 0;
}

MemoryStatistics CpuAllocator::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void CpuAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  statistics_.peak = statistics_.in_use;
}

void CpuAllocator::set_limit(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  statistics_.limit = bytes;
}

void CpuAllocator::clear_cache() {
  const std::lock_guard lock(mutex_);
  free_cached_locked();
}

void CpuAllocator::fail_after(std::int64_t successes) {
  const std::lock_guard lock(mutex_);
  fail_countdown_ = successes;
}

}  // namespace metal_candle::backend::cpu
