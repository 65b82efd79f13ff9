// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). In the
// dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"

// The block of random words that a counter and a key name.
MC_FUNCTION Packet<uint32_t, 4> philox_block(uint64_t counter, uint32_t key0, uint32_t key1) {
  uint32_t c0 = uint32_t(counter), c1 = uint32_t(counter >> 32), c2 = 0, c3 = 0;
  MC_UNROLL
  for (int round = 0; round < 10; ++round) {
    // The multipliers of the paper, and below its increments of the key.
    const uint64_t p0 = uint64_t(0xD2511F53u) * c0;
    const uint64_t p1 = uint64_t(0xCD9E8D57u) * c2;
    c0 = uint32_t(p1 >> 32) ^ c1 ^ key0;
    c1 = uint32_t(p1);
    c2 = uint32_t(p0 >> 32) ^ c3 ^ key1;
    c3 = uint32_t(p0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// A block a thread.
MC_FUNCTION void random_bits(MC_CONSTANT RandomArguments& a, MC_GROUP char*, Thread self) {
  const MC_GLOBAL uint32_t* key = static_cast<const MC_GLOBAL uint32_t*>(a.key);
  const int64_t block = int64_t(self.group) * self.size + self.index;
  const int64_t first = block * 4;
  if (first >= a.count) return;
  const Packet<uint32_t, 4> words = philox_block(uint64_t(block), key[0], key[a.key_stride]);
  MC_GLOBAL uint32_t* out = static_cast<MC_GLOBAL uint32_t*>(a.out) + first;
  if (first + 4 <= a.count && is_aligned(out, 16)) {
    store_packet<true>(out, words);
    return;
  }
  for (int i = 0; i < 4; ++i) {
    if (first + i < a.count) out[i] = words.values[i];
  }
}
MC_KERNEL(random_bits_u32, RandomArguments, 256, 0, random_bits);
