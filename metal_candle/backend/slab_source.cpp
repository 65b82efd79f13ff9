// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See slab_source.h.
#include "metal_candle/backend/slab_source.h"

#include <algorithm>
#include <iterator>

namespace metal_candle::backend {

void* SlabSource::obtain(std::size_t size) {
  if (size <= kLargestMedium) {
    const std::size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
    const std::lock_guard lock(mutex_);
    if (void* block = cut(size <= kLargestSmall ? small_ : medium_, rounded)) return block;
  }
  // Or there is no memory for a slab, but perhaps for this.
  return below_.obtain(size);
}

void SlabSource::give_back(void* block) {
  auto* const address = static_cast<std::byte*>(block);
  {
    const std::lock_guard lock(mutex_);
    if (give_back_to(small_, address) || give_back_to(medium_, address)) return;
  }
  below_.give_back(block);
}

// From the smallest range that is large enough.
void* SlabSource::cut(Kind& kind, std::size_t size) {
  for (;;) {
    Slab* slab = nullptr;
    Ranges::iterator best;
    for (auto& [base, candidate] : kind.slabs) {
      for (auto range = candidate.free.begin(); range != candidate.free.end(); ++range) {
        if (range->second < size || (slab != nullptr && range->second >= best->second)) continue;
        slab = &candidate;
        best = range;
      }
    }
    if (slab != nullptr) return cut_from(*slab, best, size);
    if (!add_slab(kind)) return nullptr;
  }
}

void* SlabSource::cut_from(Slab& slab, Ranges::iterator range, std::size_t size) {
  const auto [address, available] = *range;
  slab.free.erase(range);
  if (available > size) slab.free.emplace(address + size, available - size);
  slab.used.emplace(address, size);
  return address;
}

bool SlabSource::add_slab(Kind& kind) {
  const std::size_t size = std::clamp(kind.total / kPartOfAll / kind.slab_size * kind.slab_size,
                                      kind.slab_size, kLargestSlab);
  auto* const base = static_cast<std::byte*>(below_.obtain(size));
  if (base == nullptr) return false;
  kind.slabs.emplace(base, Slab{size, {{base, size}}, {}});
  kind.total += size;
  return true;
}

bool SlabSource::give_back_to(Kind& kind, std::byte* block) {
  auto at = kind.slabs.upper_bound(block);
  if (at == kind.slabs.begin()) return false;
  Slab& slab = (--at)->second;
  const auto used = slab.used.find(block);
  if (used == slab.used.end()) return false;
  std::size_t size = used->second;
  slab.used.erase(used);
  if (slab.used.empty()) {
    below_.give_back(at->first);
    kind.total -= slab.size;
    kind.slabs.erase(at);
    return true;
  }
  // With the free ranges on both sides.
  auto next = slab.free.lower_bound(block);
  if (next != slab.free.end() && next->first == block + size) {
    size += next->second;
    next = slab.free.erase(next);
  }
  if (next != slab.free.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == block) {
      before->second += size;
      return true;
    }
  }
  slab.free.emplace(block, size);
  return true;
}

}  // namespace metal_candle::backend
