// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rows of attention as operands of wide products: 64 at a time, as blocks of 64 columns one after
// another. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_blocks.h"

#if defined(MC_HAS_WIDE_PRODUCTS)

constexpr MC_CONSTANT int kWideRows = 64;
constexpr MC_CONSTANT int kWideElements = 64 * 64;  // Of a block.

// Rows [first, first + 64) to blocks, zeros from `end` on and beyond the width, of which 8 is a
// divisor; rows are aligned. kOneHead: as of copy_rows.
template <typename T, int kBlocks, bool kOneHead>
MC_FUNCTION void copy_wide_rows(MC_GROUP T* to, HeadRows<T> from, int32_t first, int32_t end,
                                Thread self) {
  constexpr int kRowsAtOnce = kBlockThreads / 8;
  const int32_t chunk = int32_t(self.index) % 8;
  const int32_t index = int32_t(self.index) / 8;  // Of the first row, among kRowsAtOnce.
  to += index * 64 + (chunk ^ index % 8) * 8;
  const MC_GLOBAL T* const source = from.data + (first + index) * from.stride + 8 * chunk;
  const int64_t step = kRowsAtOnce * from.stride;
  MC_UNROLL
  for (int i = 0; i < kWideRows / kRowsAtOnce; ++i) {
    const int32_t row = first + index + i * kRowsAtOnce;
    // The address of what is not read does not matter.
    const MC_GLOBAL T* at = source + i * step;
    if (!kOneHead && row < end) at = from.row(row) + 8 * chunk;
    MC_UNROLL
    for (int b = 0; b < kBlocks; ++b) {
      copy_async<16>(to + b * kWideElements + i * kRowsAtOnce * 64, at + 64 * b,
                     row < end && 64 * b + 8 * chunk < from.width);
    }
  }
}

// sums = a @ b^T, of 64 rows of each.
template <typename T, int kBlocks>
MC_FUNCTION void multiply_wide_all_rows(MC_THREAD TileSums (&sums)[8], const MC_GROUP T* a,
                                        const MC_GROUP T* b, Thread self) {
  MC_UNROLL
  for (int i = 0; i < kBlocks; ++i) {
    multiply_wide_rows<T>(sums, a + i * kWideElements, b + i * kWideElements, i > 0, self);
  }
}
// The same, with the rows of a in registers.
template <typename T, int kBlocks>
MC_FUNCTION void multiply_held_all_rows(MC_THREAD TileSums (&sums)[8],
                                        MC_THREAD const Tiles4 (&a)[kBlocks][4],
                                        const MC_GROUP T* b, Thread self) {
  MC_UNROLL
  for (int i = 0; i < kBlocks; ++i) {
    multiply_held_rows<T>(sums, a[i], b + i * kWideElements, i > 0, self);
  }
}
// sums += a @ b, of 64 rows of b.
template <typename T, int kBlocks>
MC_FUNCTION void multiply_wide_all_columns(MC_THREAD TileSums (&sums)[kBlocks][1][8],
                                           MC_THREAD const Tiles4 (&a)[4], const MC_GROUP T* b,
                                           Thread self) {
  MC_UNROLL
  for (int i = 0; i < kBlocks; ++i) {
    multiply_wide_columns<T>(sums[i][0], a, b + i * kWideElements, self);
  }
}

// A warp's 16 rows of blocks as operands.
template <typename T, int kBlocks>
MC_FUNCTION void hold_wide_rows(MC_THREAD Tiles4 (&to)[kBlocks][4], const MC_GROUP T* from,
                                Thread self) {
  MC_UNROLL
  for (int i = 0; i < kBlocks * 16; ++i) {
    const int32_t row = int32_t(self.warp * 16 + tile_row(self.lane)) + i % 2 * 8;
    const int32_t chunk = (i / 2 % 8) ^ row % 8;
    const MC_GROUP T* const at = from + i / 16 * kWideElements + row * 64 + chunk * 8;
    to[i / 16][i / 4 % 4].at[i % 4] =
        *reinterpret_cast<const MC_GROUP uint32_t*>(at + tile_column(self.lane));
  }
}

// 64 columns of sums as an operand.
template <typename T>
MC_FUNCTION void pack_wide(MC_THREAD const TileSums (&sums)[8], MC_THREAD Tiles4 (&to)[4]) {
  MC_UNROLL
  for (int s = 0; s < 4; ++s) to[s] = pack_sums<T>(sums[2 * s], sums[2 * s + 1]);
}

#endif  // defined(MC_HAS_WIDE_PRODUCTS)
