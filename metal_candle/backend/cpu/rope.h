// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the rotary embedding kernel is told when it is made.
#pragma once

#include <cstdint>

#include "metal_candle/backend/cpu/row_map.h"
#include "metal_candle/graph/operation.h"

namespace metal_candle::backend::cpu {

struct RopePlan {
  op::Rope op;
  DType dtype;
  std::int64_t length, n;  // The last two axes.
  // The axes before, in groups that share an offset: a group an element of a vector of offsets, or
  // one group of everything.
  std::int64_t groups, group_size;
  bool offset_per_group;
  RowMap x;  // Of [groups, group_size, length].
};

}  // namespace metal_candle::backend::cpu
