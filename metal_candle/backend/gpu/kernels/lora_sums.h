// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Many sums over the lanes of a warp at once. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/common.h"

// Half of n sums each: what a lane keeps of them depends on this bit of its number. It adds what
// the lane that differs in the bit has of the same.
template <int n>
struct LoraSums {
  float at[n];

  MC_FUNCTION LoraSums<n / 2> halves(uint32_t bit, uint32_t lane) const {
    LoraSums<n / 2> result;
    MC_UNROLL
    for (int i = 0; i < n / 2; ++i) {
      const bool upper = (lane & bit) != 0;
      const float mine = upper ? at[i + n / 2] : at[i];
      result.at[i] = mine + lane_shuffle_xor(upper ? at[i] : at[i + n / 2], bit);
    }
    return result;
  }
};

// The sums over all lanes, stored in their order. n: 16 or 64.
template <int n>
MC_FUNCTION void lora_store_sums(LoraSums<n> sums, MC_GROUP float* to, uint32_t lane) {
  // Each halving decides by one bit, the highest first, so that a lane is left with neighbours.
  const LoraSums<n / 16> left =
      sums.halves(16, lane).halves(8, lane).halves(4, lane).halves(2, lane);
  if constexpr (n == 16) {
    const float total = left.at[0] + lane_shuffle_xor(left.at[0], 1);
    if ((lane & 1) == 0) to[lane / 2] = total;
  } else {
    const LoraSums<n / 32> own = left.halves(1, lane);
    MC_UNROLL
    for (int i = 0; i < n / 32; ++i) to[lane * (n / 32) + i] = own.at[i];
  }
}
