// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See slab_source.h.
#include "metal_candle/backend/slab_source.h"

#include <algorithm>

namespace metal_candle::backend {

void* SlabSource::obtain(std::size_t size) {
  if (size <= kLargestMedium) {
    const std::size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
    const std::lock_guard lock(mutex_);
    if (void* block = cut(size <= kLargestSmall ? small_ : medium_, rounded)) return block;
  }
  // Or there is no memory for a slab, but perhaps for this.
  void* const block = below_.obtain(size);
  if (block != nullptr) return block;
  const std::lock_guard lock(mutex_);
  const bool small = drop_unused(small_), medium = drop_unused(medium_);
  return small || medium ? below_.obtain(size) : nullptr;
}

void SlabSource::prepare() {
  const std::lock_guard lock(mutex_);
  for (Kind* kind : {&small_, &medium_}) {
    if (kind->slabs.empty()) add_slab(*kind);
  }
}

void SlabSource::give_back(void* block) {
  auto* const address = static_cast<std::byte*>(block);
  {
    const std::lock_guard lock(mutex_);
    if (give_back_to(small_, address) || give_back_to(medium_, address)) return;
  }
  below_.give_back(block);
}

// From the smallest gap that is large enough.
void* SlabSource::cut(Kind& kind, std::size_t size) {
  for (;;) {
    auto best = kind.slabs.end();
    std::size_t smallest = 0;
    for (auto at = kind.slabs.begin(); at != kind.slabs.end(); ++at) {
      const std::size_t fit = at->second.free.fit(size);
      if (fit == 0 || (smallest != 0 && fit >= smallest)) continue;
      best = at;
      smallest = fit;
    }
    if (best != kind.slabs.end()) {
      auto& [base, slab] = *best;
      const std::size_t offset = *slab.free.take(size);
      slab.used.emplace(offset, size);
      return base + offset;
    }
    if (!add_slab(kind)) return nullptr;
  }
}

bool SlabSource::add_slab(Kind& kind) {
  const std::size_t size = std::clamp(kind.total / kPartOfAll / kind.slab_size * kind.slab_size,
                                      kind.slab_size, kLargestSlab);
  auto* const base = static_cast<std::byte*>(below_.obtain(size));
  if (base == nullptr) return false;
  Slab& slab = kind.slabs[base];
  slab.size = size;
  slab.free.add(0, size);
  kind.total += size;
  return true;
}

bool SlabSource::drop_unused(Kind& kind) {
  const auto drop = [&](const auto& entry) {
    if (!entry.second.used.empty()) return false;
    below_.give_back(entry.first);
    kind.total -= entry.second.size;
    return true;
  };
  return std::erase_if(kind.slabs, drop) > 0;
}

bool SlabSource::give_back_to(Kind& kind, std::byte* block) {
  auto at = kind.slabs.upper_bound(block);
  if (at == kind.slabs.begin()) return false;
  Slab& slab = (--at)->second;
  const auto offset = static_cast<std::size_t>(block - at->first);
  const auto used = slab.used.find(offset);
  if (used == slab.used.end()) return false;
  slab.free.add(offset, used->second);
  slab.used.erase(used);
  if (!slab.used.empty()) return true;
  below_.give_back(at->first);
  kind.total -= slab.size;
  kind.slabs.erase(at);
  return true;
}

}  // namespace metal_candle::backend
