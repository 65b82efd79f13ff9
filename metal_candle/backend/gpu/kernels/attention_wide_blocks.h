// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rows of attention as operands of wide products: 64 at a time, as blocks of 64 columns one after
// another. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_blocks.h"

#if defined(MC_HAS_WIDE_PRODUCTS)

constexpr MC_CONSTANT int kWideRows = 64;
constexpr MC_CONSTANT int kWideElements = 64 * 64;  // Of a block.

// Rows [first, first + 64) to blocks, zeros from `end` on and beyond the width. kOneHead: as of
// copy_rows.
template <typename T, int kBlocks, bool kOneHead>
MC_FUNCTION void copy_wide_rows(MC_GROUP T* to, HeadRows<T> from, int32_t first, int32_t end,
                                Thread self) {
  const int32_t chunk = int32_t(self.index) % 8;
  const int32_t index = int32_t(self.index) / 8;  // Of the first row, among 16.
  MC_GROUP T* at = to + index * 64 + (chunk ^ index % 8) * 8;
  const MC_GLOBAL T* source = from.data + (first + index) * from.stride;
  MC_UNROLL
  for (int i = 0; i < kWideRows; i += 16) {
    const int32_t row = first + index + i;
    if (!kOneHead && row < end) source = from.row(row);
    MC_UNROLL
    for (int b = 0; b < kBlocks; ++b) {
      const int32_t column = 64 * b + 8 * chunk;
      const bool exists = row < end && column < from.width;
      if (from.aligned && column + 8 <= from.width) {
        copy_async<16>(at + b * kWideElements, exists ? source + column : from.data, exists);
        continue;
      }
      for (int j = 0; j < 8; ++j) {
        T element = T(0.0f);
        if (exists && column + j < from.width) element = source[column + j];
        at[b * kWideElements + j] = element;
      }
    }
    at += 16 * 64;
    source += 16 * from.stride;
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

// 64 columns of sums as an operand.
template <typename T>
MC_FUNCTION void pack_wide(MC_THREAD const TileSums (&sums)[8], MC_THREAD Tiles4 (&to)[4]) {
  MC_UNROLL
  for (int s = 0; s < 4; ++s) to[s] = pack_sums<T>(sums[2 * s], sums[2 * s + 1]);
}

#endif  // defined(MC_HAS_WIDE_PRODUCTS)
