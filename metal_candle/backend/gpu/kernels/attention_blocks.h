// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the kernels of attention on tensor cores share: blocks of rows in group memory and in
// registers. In the dialect of dialect.h.
//
// A group has four warps, or two, each with kTiles * 16 of its rows. Rows in group memory are
// kWidth + 8 elements apart, so that 8 of them begin in different banks, and columns beyond the
// width are 0.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_problem.h"

constexpr MC_CONSTANT int kBlockThreads = 128;

MC_FUNCTION constexpr int block_stride(int width) { return width + 8; }
MC_FUNCTION constexpr int block_elements(int rows, int width) { return rows * block_stride(width); }

// Rows [first, first + kRows) to group memory, zeros from `end` on. Asynchronous where rows are
// aligned. kOneHead: the rows are of one head, so that no row needs a division.
template <typename T, int kRows, int kWidth, bool kOneHead, int kThreads = kBlockThreads>
MC_FUNCTION void copy_rows(MC_GROUP T* to, HeadRows<T> from, int32_t first, int32_t end,
                           Thread self) {
  constexpr int kChunks = kWidth / 8;
  constexpr int kRowsAtOnce = kThreads / kChunks;
  const int32_t column = int32_t(self.index) % kChunks * 8;
  int32_t row = first + int32_t(self.index) / kChunks;
  MC_GROUP T* at = to + int32_t(self.index) / kChunks * block_stride(kWidth) + column;
  const MC_GLOBAL T* source = from.data + row * from.stride + column;
  MC_UNROLL
  for (int i = 0; i < kRows; i += kRowsAtOnce) {
    const bool exists = row < end && column < from.width;
    if (!kOneHead && exists) source = from.row(row) + column;
    if (from.aligned && column + 8 <= from.width) {
      // The address of what is not read does not matter, but has to be one.
      copy_async<16>(at, exists ? source : from.data, exists);
    } else {
      for (int j = 0; j < 8; ++j) {
        T element = T(0.0f);
        if (exists && column + j < from.width) element = source[j];
        at[j] = element;
      }
    }
    row += kRowsAtOnce;
    at += kRowsAtOnce * block_stride(kWidth);
    source += kRowsAtOnce * from.stride;
  }
}

// sums += the 16-row block `a` times each 8 rows of kColumns rows at `b`, transposed: step `step`
// of the width.
template <typename T, int kTiles, int kColumns, int kStride>
MC_FUNCTION void multiply_rows(MC_THREAD TileSums (&sums)[kTiles][kColumns / 8],
                               MC_THREAD const Tiles4 (&a)[kTiles], const MC_GROUP T* b,
                               uint32_t lane) {
  MC_UNROLL
  for (int n = 0; n < kColumns / 16; ++n) {
    const Tiles4 rows = load_right_tiles(b + n * 16 * kStride, kStride, lane);
    MC_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      sums[t][2 * n] = multiply_tiles<T>(sums[t][2 * n], a[t], rows.at[0], rows.at[2]);
      sums[t][2 * n + 1] = multiply_tiles<T>(sums[t][2 * n + 1], a[t], rows.at[1], rows.at[3]);
    }
  }
}

// sums += the block `a` times 16 rows at `b` of kWidth columns.
template <typename T, int kTiles, int kWidth>
MC_FUNCTION void multiply_columns(MC_THREAD TileSums (&sums)[kTiles][kWidth / 8],
                                  MC_THREAD const Tiles4 (&a)[kTiles], const MC_GROUP T* b,
                                  uint32_t lane) {
  MC_UNROLL
  for (int n = 0; n < kWidth / 16; ++n) {
    const Tiles4 columns = load_right_tiles_transposed(b + n * 16, block_stride(kWidth), lane);
    MC_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      sums[t][2 * n] = multiply_tiles<T>(sums[t][2 * n], a[t], columns.at[0], columns.at[1]);
      sums[t][2 * n + 1] =
          multiply_tiles<T>(sums[t][2 * n + 1], a[t], columns.at[2], columns.at[3]);
    }
  }
}

// Two neighbouring 16x8 blocks of sums as an operand.
template <typename T>
MC_FUNCTION Tiles4 pack_sums(TileSums left, TileSums right) {
  return {{pack_tile<T>(left.at[0], left.at[1]), pack_tile<T>(left.at[2], left.at[3]),
           pack_tile<T>(right.at[0], right.at[1]), pack_tile<T>(right.at[2], right.at[3])}};
}

template <int kTiles, int kBlocks>
MC_FUNCTION void clear_sums(MC_THREAD TileSums (&sums)[kTiles][kBlocks]) {
  MC_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    MC_UNROLL
    for (int n = 0; n < kBlocks; ++n) sums[t][n] = {{0.0f, 0.0f, 0.0f, 0.0f}};
  }
}

// The row in its group of the first element of a lane's tile t; that of the lower half is 8 below.
template <int kTiles>
MC_FUNCTION int32_t block_row(Thread self, int t) {
  return int32_t(self.warp) * (16 * kTiles) + t * 16 + int32_t(tile_row(self.lane));
}

// Writes two neighbouring elements of a row of `width`.
template <typename T>
MC_FUNCTION void store_pair(MC_GLOBAL T* row, int32_t column, int32_t width, float first,
                            float second) {
  if (column + 1 < width && width % 2 == 0) {
    *reinterpret_cast<MC_GLOBAL uint32_t*>(row + column) = pack_tile<T>(first, second);
    return;
  }
  if (column < width) row[column] = T(first);
  if (column + 1 < width) row[column + 1] = T(second);
}

// Which rows the group of that number has. Those that see most come first, so that the last groups
// to run are short.
MC_FUNCTION int32_t row_block(MC_CONSTANT AttentionProblem& p, int32_t rows, int32_t number) {
  const int32_t heads = p.heads / p.key_heads;
  if (p.queries % rows != 0) return (heads * p.queries + rows - 1) / rows - 1 - number;
  const int32_t blocks = p.queries / rows;
  return number % heads * blocks + blocks - 1 - number / heads;
}
