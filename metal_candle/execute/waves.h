// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Which steps of a plan do not depend on each other: they may run at once, or as one dispatch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace metal_candle {

/// Bytes [begin, end) of a block of memory; two spaces never share memory.
struct MemoryRange {
  std::int32_t space;
  std::size_t begin, end;
};

/// What a step touches. What is only ever read need not be listed.
struct MemoryAccess {
  std::vector<MemoryRange> reads;
  std::vector<MemoryRange> writes;
};

/// The wave of each step, from 0: the earliest such that whatever touches the same bytes, unless
/// both only read, is in another wave, and in the order given. So running the waves one after the
/// other, and the steps of each in any order, gives what running all in order gives.
[[nodiscard]] std::vector<std::int32_t> waves_of(std::span<const MemoryAccess> steps);

}  // namespace metal_candle
