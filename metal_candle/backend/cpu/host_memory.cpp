// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See host_memory.h.
#include "metal_candle/backend/cpu/host_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

namespace metal_candle::backend::cpu {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

void* HostMemory::obtain(std::size_t size) {
  const std::size_t alignment = size >= 2 * kHugePage ? kHugePage : kAlignment;
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* block = std::aligned_alloc(alignment, rounded);
  if (block != nullptr && alignment == kHugePage) madvise(block, rounded, MADV_HUGEPAGE);
  return block;
}

void HostMemory::give_back(void* block) { std::free(block); }

std::size_t HostMemory::physical() {
  return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::size_t>(sysconf(_SC_PAGE_SIZE));
}

}  // namespace metal_candle::backend::cpu
