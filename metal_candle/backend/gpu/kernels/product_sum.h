// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sums of products, by wide products: a group has 128 or 256 rows and 128 columns of the result,
// and goes through the inner axes of all terms one after another. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_wide_blocks.h"

#if defined(MC_HAS_WIDE_PRODUCTS)

constexpr MC_CONSTANT int kProductThreads = 2 * kBlockThreads;
constexpr MC_CONSTANT int kProductTile = 128;
constexpr MC_CONSTANT int kProductStages = 3;
constexpr MC_CONSTANT int kProductStage = 4 * kWideElements;  // Two blocks of a, two of b.

// 64 rows of 64 elements to a block, zeros from `rows` and `columns` on, of which the latter is a
// multiple of 8. By four warps.
template <typename T>
MC_FUNCTION void copy_wide_block(MC_GROUP T* to, const MC_GLOBAL T* from, int64_t stride,
                                 int32_t rows, int32_t columns, Thread self) {
  constexpr int kRowsAtOnce = kBlockThreads / 8;
  const int32_t chunk = int32_t(self.index) % 8;
  const int32_t row = int32_t(self.index) / 8;
  to += row * 64 + (chunk ^ row % 8) * 8;
  from += row * stride + 8 * chunk;
  const int64_t step = kRowsAtOnce * stride;
  const int32_t last = 8 * chunk < columns ? rows : 0;
  MC_UNROLL
  for (int i = 0; i < kWideRows / kRowsAtOnce; ++i) {
    // The address of what is not read does not matter.
    copy_async<16>(to + i * kRowsAtOnce * 64, from + i * step, row + i * kRowsAtOnce < last);
  }
}

// A place along the inner axes.
struct ProductPlace {
  int32_t term, k;

  MC_FUNCTION void advance(MC_CONSTANT ProductSumArguments& arguments) {
    k += 64;
    if (k < arguments.terms[term].k) return;
    k = 0;
    ++term;
  }
};

// What a step takes: each of two teams of four warps copies its rows of a, and half the columns.
template <typename T>
MC_FUNCTION void load_product_step(MC_CONSTANT ProductSumArguments& arguments, MC_GROUP T* to,
                                   ProductPlace at, int32_t row, int32_t column, int32_t team,
                                   Thread mate) {
  MC_CONSTANT ProductTerm& term = arguments.terms[at.term];
  const int32_t left = term.k - at.k;
  copy_wide_block(to + team * kWideElements,
                  static_cast<const MC_GLOBAL T*>(term.a) + row * term.a_stride + at.k,
                  term.a_stride, arguments.m - row, left, mate);
  const MC_GLOBAL T* const b = static_cast<const MC_GLOBAL T*>(term.b);
  const int32_t columns = arguments.n - column;
  to += (2 + team) * kWideElements;
  if (term.by_rows != 0) {
    copy_wide_block(to, b + column * term.b_stride + at.k, term.b_stride, columns, left, mate);
  } else {
    copy_wide_block(to, b + at.k * term.b_stride + column, term.b_stride, left, columns, mate);
  }
}

template <typename T>
MC_FUNCTION void product_sum(MC_CONSTANT ProductSumArguments& arguments, MC_GROUP char* memory,
                             Thread self) {
  memory += -reinterpret_cast<uint64_t>(memory) & 1023;
  MC_GROUP T* const stages = reinterpret_cast<MC_GROUP T*>(memory);
  const int32_t team = int32_t(self.index) / kBlockThreads;
  Thread mate = self;
  mate.index %= kBlockThreads;
  mate.warp %= kBlockThreads / 32;
  const int32_t across = (arguments.n + kProductTile - 1) / kProductTile;
  const int32_t row = int32_t(self.group) / across * kProductTile + team * kWideRows;
  const int32_t column = int32_t(self.group) % across * kProductTile;
  const int32_t loaded_column = column + team * kWideRows;

  TileSums sums[2][8];
  clear_sums(sums);
  constexpr int kAhead = kProductStages - 1;
  ProductPlace next = {0, 0};
  for (int s = 0; s < kAhead; ++s) {
    if (s < arguments.steps) {
      load_product_step(arguments, stages + s * kProductStage, next, row, loaded_column, team,
                        mate);
      next.advance(arguments);
    }
    copy_commit();
  }
  ProductPlace place = {0, 0};
  for (int32_t step = 0; step < arguments.steps; ++step) {
    copy_wait<kAhead - 1>();
    wide_publish();
    group_barrier();  // This step is there, and nobody needs the one before.
    if (step + kAhead < arguments.steps) {
      load_product_step(arguments, stages + (step + kAhead) % kProductStages * kProductStage, next,
                        row, loaded_column, team, mate);
      next.advance(arguments);
    }
    copy_commit();
    const MC_GROUP T* const here = stages + step % kProductStages * kProductStage;
    const MC_GROUP T* const a = here + team * kWideElements;
    const MC_GROUP T* const b = here + 2 * kWideElements;
    wide_begin();
    if (arguments.terms[place.term].by_rows != 0) {
      multiply_wide_rows<T>(sums[0], a, b, true, mate);
      multiply_wide_rows<T>(sums[1], a, b + kWideElements, true, mate);
    } else {
      multiply_wide_by_columns<T>(sums[0], a, b, true, mate);
      multiply_wide_by_columns<T>(sums[1], a, b + kWideElements, true, mate);
    }
    wide_commit();
    place.advance(arguments);
    wide_wait<0>();
    wide_settle(sums[0]);
    wide_settle(sums[1]);
  }
  copy_wait<0>();

  MC_UNROLL
  for (int h = 0; h < 2; ++h) {
    const int32_t mine = row + block_row<1>(mate, 0) + 8 * h;
    if (mine >= arguments.m) continue;
    const int64_t at = int64_t{mine} * arguments.n;
    const MC_GLOBAL T* const residual =
        arguments.residual == nullptr ? nullptr
                                      : static_cast<const MC_GLOBAL T*>(arguments.residual) + at;
    MC_UNROLL
    for (int b = 0; b < 2; ++b) {
      MC_UNROLL
      for (int i = 0; i < 8; ++i) {
        const int32_t j = column + 64 * b + 8 * i + int32_t(tile_column(self.lane));
        if (j >= arguments.n) continue;
        float left = sums[b][i].at[2 * h];
        float right = sums[b][i].at[2 * h + 1];
        if (residual != nullptr) {
          const uint32_t both = *reinterpret_cast<const MC_GLOBAL uint32_t*>(residual + j);
          left += tile_element<T>(both, 0);
          right += tile_element<T>(both, 1);
        }
        *reinterpret_cast<MC_GLOBAL uint32_t*>(static_cast<MC_GLOBAL T*>(arguments.out) + at + j) =
            pack_tile<T>(left, right);
      }
    }
  }
}

MC_KERNEL_RESIDENT(product_sum_f16, ProductSumArguments, kProductThreads, 2, product_sum<half>);
MC_KERNEL_RESIDENT(product_sum_bf16, ProductSumArguments, kProductThreads, 2, product_sum<bfloat>);

#endif  // defined(MC_HAS_WIDE_PRODUCTS)
