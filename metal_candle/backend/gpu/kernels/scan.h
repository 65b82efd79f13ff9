// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Running reductions over the threads of a group. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/reduction.h"

template <typename A>
MC_FUNCTION A shuffle_up(A x, uint32_t delta) {
  return lane_shuffle_up(x, delta);
}
MC_FUNCTION int64_t shuffle_up(int64_t x, uint32_t delta) {
  const uint32_t low = lane_shuffle_up(uint32_t(x), delta);
  const uint32_t high = lane_shuffle_up(uint32_t(uint64_t(x) >> 32), delta);
  return int64_t(uint64_t(high) << 32 | low);
}

// What threads before this one have, and what all have.
template <typename A>
struct Scanned {
  A before, total;
};

// memory: 32 accumulators, which may be used again after the next barrier.
template <typename R, typename A>
MC_FUNCTION Scanned<A> group_scan(A x, MC_GROUP char* memory, Thread self) {
  MC_GROUP A* const shared = reinterpret_cast<MC_GROUP A*>(memory);
  A here = x;
  for (uint32_t delta = 1; delta < 32; delta *= 2) {
    const A left = shuffle_up(here, delta);
    if (self.lane >= delta) here = R::join(left, here);
  }
  if (self.lane == 31) shared[self.warp] = here;
  A before = shuffle_up(here, 1);
  if (self.lane == 0) before = R::identity();
  group_barrier();
  A earlier = R::identity(), total = R::identity();
  for (uint32_t warp = 0; warp < self.size / 32; ++warp) {
    if (warp == self.warp) earlier = total;
    total = R::join(total, shared[warp]);
  }
  return {R::join(earlier, before), total};
}
