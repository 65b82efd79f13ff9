// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Attention on tensor cores, after Dao, "FlashAttention-2" (2023). In the dialect of dialect.h.
//
// A group has 64 or 128 rows of queries and goes through the keys that they see, a block at a time.
// Values are on their way while scores are computed, the next keys while values are used. A warp
// keeps its rows' scores and sums in registers, where scores become the operand of the second
// product without moving.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_blocks.h"
#include "metal_candle/backend/gpu/kernels/attention_rows.h"

MC_FUNCTION constexpr int attention_block_keys(int width, int tiles) {
  return width * tiles <= 128 ? 64 : 32;
}

// What masks add to each score of a group, if there is a mask: f32 [kRows, kKeys] behind the
// blocks.
template <int kRows, int kKeys>
MC_FUNCTION void load_mask(MC_CONSTANT AttentionProblem& p, AttentionShare share, int32_t first_row,
                           int32_t first_key, MC_GROUP float* to, Thread self) {
  for (int32_t i = int32_t(self.index); i < kRows * kKeys; i += kBlockThreads) {
    to[i] = masked_score(p, share, first_row + i / kKeys, first_key + i % kKeys, 0.0f);
  }
}

template <typename T, int kWidth, int kTiles, int kKeys = attention_block_keys(kWidth, kTiles)>
MC_FUNCTION void attention_tiles(MC_CONSTANT AttentionArguments& arguments, MC_GROUP char* memory,
                                 Thread self) {
  constexpr int kRows = 64 * kTiles;
  constexpr int kStride = block_stride(kWidth);
  constexpr int kSteps = kWidth / 16;
  // Queries stay in registers where these suffice.
  constexpr bool kHeld = kWidth * kTiles <= 128;
  MC_CONSTANT AttentionProblem& p = arguments.problem;
  const uint32_t lane = self.lane;

  const int32_t shares = p.batch * p.key_heads;
  const AttentionShare share = attention_share(p, int32_t(self.group) % shares);
  const int32_t first = row_block(p, kRows, int32_t(self.group) / shares) * kRows;
  const int32_t last = (first + kRows < share.rows ? first + kRows : share.rows) - 1;
  const QueryRange among = queries_of_rows(p, first, last);
  const KeyRange some = keys_of_some(p, share.length, among);
  const KeyRange all = keys_of_all(p, share.length, among);

  MC_GROUP T* const queries = reinterpret_cast<MC_GROUP T*>(memory);
  MC_GROUP T* const keys = queries + block_elements(kRows, kWidth);
  MC_GROUP T* const values = keys + block_elements(kKeys, kWidth);
  MC_GROUP float* const mask =
      reinterpret_cast<MC_GROUP float*>(values + block_elements(kKeys, kWidth));
  const HeadRows<T> k = key_rows<T>(p, share);
  const HeadRows<T> v = value_rows<T>(p, share);
  copy_rows<T, kRows, kWidth, false>(queries, query_rows<T>(p, share, p.q, p.q_strides, p.width),
                                     first, share.rows, self);
  if (some.begin < some.end) {
    copy_rows<T, kKeys, kWidth, true>(keys, k, some.begin, some.end, self);
  }
  copy_commit();

  const int32_t window = p.causal != 0 && p.window > 0 ? p.window : 0x7fffffff;
  // A lane has two rows of each tile: where what they see ends, the largest score and the sum so
  // far. Scores are powers of 2 once they are multiplied by `scale`.
  int32_t end[kTiles][2];
  float top[kTiles][2];
  float sum[kTiles][2];
  TileSums out[kTiles][kWidth / 8];
  clear_sums(out);
  MC_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    MC_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int32_t row = first + block_row<kTiles>(self, t) + 8 * h;
      end[t][h] = keys_of_query(p, share.length, row % p.queries).end;
      top[t][h] = -INFINITY;
      sum[t][h] = 0.0f;
    }
  }
  const MC_GROUP T* const my_queries = queries + int32_t(self.warp) * (16 * kTiles) * kStride;
  Tiles4 held[kHeld ? kSteps : 1][kTiles];

  for (int32_t start = some.begin; start < some.end; start += kKeys) {
    copy_wait<0>();
    group_barrier();  // The keys are there, and nobody needs the last values.
    copy_rows<T, kKeys, kWidth, true>(values, v, start, some.end, self);
    copy_commit();
    if (p.mask != nullptr) {
      load_mask<kRows, kKeys>(p, share, first, start, mask, self);
    }
    TileSums scores[kTiles][kKeys / 8];
    clear_sums(scores);
    if constexpr (kHeld) {
      if (start == some.begin) {
        MC_UNROLL
        for (int s = 0; s < kSteps; ++s) {
          MC_UNROLL
          for (int t = 0; t < kTiles; ++t) {
            held[s][t] = load_tiles(my_queries + t * 16 * kStride + s * 16, kStride, lane);
          }
        }
      }
    }
    MC_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      if constexpr (kHeld) {
        multiply_rows<T, kTiles, kKeys, kStride>(scores, held[s], keys + s * 16, lane);
      } else {
        Tiles4 a[kTiles];
        MC_UNROLL
        for (int t = 0; t < kTiles; ++t) {
          a[t] = load_tiles(my_queries + t * 16 * kStride + s * 16, kStride, lane);
        }
        multiply_rows<T, kTiles, kKeys, kStride>(scores, a, keys + s * 16, lane);
      }
    }
    copy_wait<0>();
    group_barrier();  // The values are there, and nobody needs the keys.
    if (start + kKeys < some.end) {
      copy_rows<T, kKeys, kWidth, true>(keys, k, start + kKeys, some.end, self);
    }
    copy_commit();

    // A scale below 0 would turn the largest product into the least score.
    float scale = p.scale * MC_LOG2_E;
    const bool whole =
        p.mask == nullptr && start >= all.begin && start + kKeys <= all.end && scale > 0.0f;
    if (!whole) {
      MC_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        MC_UNROLL
        for (int n = 0; n < kKeys / 8; ++n) {
          MC_UNROLL
          for (int i = 0; i < 4; ++i) {
            const int32_t column = n * 8 + int32_t(tile_column(lane)) + i % 2;
            float score = scores[t][n].at[i] * scale;
            if (p.mask != nullptr) {
              score += mask[(block_row<kTiles>(self, t) + i / 2 * 8) * kKeys + column];
            }
            const int32_t back = end[t][i / 2] - start - column;
            scores[t][n].at[i] = back > 0 && back <= window ? score : -INFINITY;
          }
        }
      }
      scale = 1.0f;
    }
    MC_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      MC_UNROLL
      for (int h = 0; h < 2; ++h) {
        float largest = -INFINITY;
        MC_UNROLL
        for (int n = 0; n < kKeys / 8; ++n) {
          largest = fmaxf(largest, fmaxf(scores[t][n].at[2 * h], scores[t][n].at[2 * h + 1]));
        }
        const float new_top = fmaxf(top[t][h], tile_row_max(largest) * scale);
        const float base = new_top == -INFINITY ? 0.0f : new_top;
        const float correction = fast_exp2(top[t][h] - base);
        top[t][h] = new_top;
        float added = 0.0f;
        MC_UNROLL
        for (int n = 0; n < kKeys / 8; ++n) {
          MC_UNROLL
          for (int i = 2 * h; i < 2 * h + 2; ++i) {
            scores[t][n].at[i] = fast_exp2(fmaf(scores[t][n].at[i], scale, -base));
            added += scores[t][n].at[i];
          }
        }
        sum[t][h] = fmaf(sum[t][h], correction, added);
        MC_UNROLL
        for (int n = 0; n < kWidth / 8; ++n) {
          out[t][n].at[2 * h] *= correction;
          out[t][n].at[2 * h + 1] *= correction;
        }
      }
    }
    MC_UNROLL
    for (int s = 0; s < kKeys / 16; ++s) {
      Tiles4 a[kTiles];
      MC_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        a[t] = pack_sums<T>(scores[t][2 * s], scores[t][2 * s + 1]);
      }
      multiply_columns<T, kTiles, kWidth>(out, a, values + s * 16 * kStride, lane);
    }
  }
  copy_wait<0>();

  MC_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    MC_UNROLL
    for (int h = 0; h < 2; ++h) {
      const float total = tile_row_sum(sum[t][h]);
      const int32_t row = first + block_row<kTiles>(self, t) + 8 * h;
      if (row > last) continue;
      const int64_t number = share.first_row + row;
      if (tile_column(lane) == 0) write_logsumexp(arguments.logsumexp, number, top[t][h], total);
      if (arguments.out == nullptr) continue;
      const float factor = total == 0.0f ? 0.0f : 1.0f / total;
      MC_GLOBAL T* const to = static_cast<MC_GLOBAL T*>(arguments.out) + number * p.value_width;
      MC_UNROLL
      for (int n = 0; n < kWidth / 8; ++n) {
        store_pair(to, n * 8 + int32_t(tile_column(lane)), p.value_width,
                   out[t][n].at[2 * h] * factor, out[t][n].at[2 * h + 1] * factor);
      }
    }
  }
}

// Widths up to 64, 128 and 256, and rows of a group.
#define MC_ATTENTION_TILES(T, type, width, tiles)                                                  \
  MC_KERNEL_DYNAMIC(attention_tiles_##width##_##tiles##_##type, AttentionArguments, kBlockThreads, \
                    attention_tiles<T, width, tiles>);
#define MC_ATTENTION_TILES_OF(T, type) \
  MC_ATTENTION_TILES(T, type, 64, 1)   \
  MC_ATTENTION_TILES(T, type, 64, 2)   \
  MC_ATTENTION_TILES(T, type, 128, 1)  \
  MC_ATTENTION_TILES(T, type, 128, 2)  \
  MC_ATTENTION_TILES(T, type, 256, 1)
MC_ATTENTION_TILES_OF(half, f16)
MC_ATTENTION_TILES_OF(bfloat, bf16)
#undef MC_ATTENTION_TILES
#undef MC_ATTENTION_TILES_OF

// With fewer keys at a time, so that a group does with 32 KiB. NVIDIA GPUs all have more.
#ifndef __CUDACC__
#define MC_ATTENTION_SMALL_TILES(T, type, width, keys)                                           \
  MC_KERNEL_DYNAMIC(attention_small_tiles_##width##_1_##type, AttentionArguments, kBlockThreads, \
                    attention_tiles<T, width, 1, keys>);
MC_ATTENTION_SMALL_TILES(half, f16, 64, 32)
MC_ATTENTION_SMALL_TILES(half, f16, 128, 16)
MC_ATTENTION_SMALL_TILES(bfloat, bf16, 64, 32)
MC_ATTENTION_SMALL_TILES(bfloat, bf16, 128, 16)
#undef MC_ATTENTION_SMALL_TILES
#endif
