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

/// What a step touches, and what it is like.
struct StepAccess {
  std::vector<MemoryRange>
      reads;  // Of what some step writes; what is only ever read may be left out.
  std::vector<MemoryRange> writes;
  std::uint64_t kind = 0;  // Steps of one kind are better in one wave.
};

/// The wave of each step, from 0. Of two steps that touch the same bytes, unless both only read,
/// the later one is in a later wave: so running the waves one after the other, and the steps of
/// each in any order, gives what running all in order gives. There are as few waves as that allows;
/// within that, steps come late, so that they meet others of their kind.
[[nodiscard]] std::vector<std::int32_t> waves_of(std::span<const StepAccess> steps);

}  // namespace metal_candle
