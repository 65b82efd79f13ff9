// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Blocks of host memory for the CPU backend's pool.
#pragma once

#include <cstddef>

#include "metal_candle/backend/pool_allocator.h"

namespace metal_candle::backend::cpu {

/// Large blocks are aligned for, and ask for, huge pages: a fault for 2 MiB at once.
class HostMemory final : public BlockSource {
 public:
  void* obtain(std::size_t size) override;
  void give_back(void* block) override;
  /// Bytes of the machine.
  [[nodiscard]] static std::size_t physical();
};

}  // namespace metal_candle::backend::cpu
