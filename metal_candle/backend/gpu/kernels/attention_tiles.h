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

// The two rows that a lane has of each tile: where what they see ends, the largest score and the
// sum so far.
template <int kTiles>
struct RunningRows {
  int32_t end[kTiles][2];
  float top[kTiles][2];
  float sum[kTiles][2];
};

template <int kTiles>
MC_FUNCTION RunningRows<kTiles> start_rows(MC_CONSTANT AttentionProblem& p, int32_t length,
                                           int32_t first, Thread self) {
  RunningRows<kTiles> rows;
  MC_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    MC_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int32_t row = first + block_row<kTiles>(self, t) + 8 * h;
      rows.end[t][h] = keys_of_query(p, length, row % p.queries).end;
      rows.top[t][h] = -INFINITY;
      rows.sum[t][h] = 0.0f;
    }
  }
  return rows;
}

// Scores times `scale`, and -infinity where a row does not see a key, of which `start` is the
// first.
template <int kTiles, int kKeys>
MC_FUNCTION void hide_scores(MC_THREAD TileSums (&scores)[kTiles][kKeys / 8],
                             MC_THREAD const RunningRows<kTiles>& rows, int32_t start,
                             int32_t window, float scale, const MC_GROUP float* mask, Thread self) {
  MC_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    MC_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) {
      MC_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int32_t column = n * 8 + int32_t(tile_column(self.lane)) + i % 2;
        float score = scores[t][n].at[i] * scale;
        if (mask != nullptr) {
          score += mask[(block_row<kTiles>(self, t) + i / 2 * 8) * kKeys + column];
        }
        const int32_t back = rows.end[t][i / 2] - start - column;
        scores[t][n].at[i] = back > 0 && back <= window ? score : -INFINITY;
      }
    }
  }
}

// Makes scores, which times `scale` are powers of 2, probabilities but for a factor of their row;
// `correction` is what all that was added up before is to be multiplied by. The factor changes only
// if probabilities would become larger than 2^kSlack, so that there is seldom anything to correct.
template <int kTiles, int kKeys>
MC_FUNCTION void scores_to_probabilities(MC_THREAD TileSums (&scores)[kTiles][kKeys / 8],
                                         MC_THREAD RunningRows<kTiles>& rows, float scale,
                                         MC_THREAD float (&correction)[kTiles][2]) {
  constexpr float kSlack = 8.0f;
  MC_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    float largest[2][2];  // Of even and odd columns, so that neither waits for the other.
    MC_UNROLL
    for (int i = 0; i < 4; ++i) largest[i / 2][i % 2] = scores[t][0].at[i];
    MC_UNROLL
    for (int n = 1; n < kKeys / 8; ++n) {
      MC_UNROLL
      for (int i = 0; i < 4; ++i) {
        largest[i / 2][i % 2] = fmaxf(largest[i / 2][i % 2], scores[t][n].at[i]);
      }
    }
    float base[2];
    MC_UNROLL
    for (int h = 0; h < 2; ++h) {
      const float top = rows.top[t][h];
      const float found = tile_row_max(fmaxf(largest[h][0], largest[h][1])) * scale;
      const bool grows = found > top + kSlack;
      rows.top[t][h] = grows ? found : top;
      base[h] = rows.top[t][h] == -INFINITY ? 0.0f : rows.top[t][h];
      correction[t][h] = grows ? fast_exp2(top - base[h]) : 1.0f;
    }
    float added[2][2] = {{0.0f, 0.0f}, {0.0f, 0.0f}};
    MC_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) {
      MC_UNROLL
      for (int i = 0; i < 4; ++i) {
        scores[t][n].at[i] = fast_exp2(fmaf(scores[t][n].at[i], scale, -base[i / 2]));
        added[i / 2][i % 2] += scores[t][n].at[i];
      }
    }
    MC_UNROLL
    for (int h = 0; h < 2; ++h) {
      rows.sum[t][h] = fmaf(rows.sum[t][h], correction[t][h], added[h][0] + added[h][1]);
    }
  }
}

// Whether the warp has anything to correct.
template <int kTiles>
MC_FUNCTION bool any_correction(MC_THREAD const float (&correction)[kTiles][2]) {
  bool any = false;
  MC_UNROLL
  for (int t = 0; t < kTiles; ++t)
    any = any || correction[t][0] != 1.0f || correction[t][1] != 1.0f;
  return lane_ballot(any) != 0;
}

template <int kTiles, int kBlocks>
MC_FUNCTION void correct_sums(MC_THREAD TileSums (&sums)[kTiles][kBlocks],
                              MC_THREAD const float (&correction)[kTiles][2]) {
  MC_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    MC_UNROLL
    for (int n = 0; n < kBlocks; ++n) {
      MC_UNROLL
      for (int i = 0; i < 4; ++i) sums[t][n].at[i] *= correction[t][i / 2];
    }
  }
}

// Writes kBlocks * 8 columns of the output from first_column on, and with the first of them
// logsumexp.
template <typename T, int kTiles, int kBlocks>
MC_FUNCTION void write_attention(MC_CONSTANT AttentionArguments& arguments, AttentionShare share,
                                 MC_THREAD const TileSums (&out)[kTiles][kBlocks],
                                 MC_THREAD const RunningRows<kTiles>& rows, int32_t first,
                                 int32_t last, int32_t first_column, Thread self) {
  const int32_t width = arguments.problem.value_width;
  const int32_t column = first_column + int32_t(tile_column(self.lane));
  MC_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    MC_UNROLL
    for (int h = 0; h < 2; ++h) {
      const float total = tile_row_sum(rows.sum[t][h]);
      const int32_t row = first + block_row<kTiles>(self, t) + 8 * h;
      if (row > last) continue;
      const int64_t number = share.first_row + row;
      if (column == 0) write_logsumexp(arguments.logsumexp, number, rows.top[t][h], total);
      if (arguments.out == nullptr) continue;
      const float factor = total == 0.0f ? 0.0f : 1.0f / total;
      MC_GLOBAL T* const to = static_cast<MC_GLOBAL T*>(arguments.out) +
                              row_place(arguments.problem, share, arguments.out_strides, row);
      MC_UNROLL
      for (int n = 0; n < kBlocks; ++n) {
        store_pair(to, n * 8 + column, width, out[t][n].at[2 * h] * factor,
                   out[t][n].at[2 * h + 1] * factor);
      }
    }
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
  RunningRows<kTiles> rows = start_rows<kTiles>(p, share.length, first, self);
  TileSums out[kTiles][kWidth / 8];
  clear_sums(out);
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
      hide_scores<kTiles, kKeys>(scores, rows, start, window, scale,
                                 p.mask != nullptr ? mask : nullptr, self);
      scale = 1.0f;
    }
    float correction[kTiles][2];
    scores_to_probabilities<kTiles, kKeys>(scores, rows, scale, correction);
    correct_sums(out, correction);
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
  write_attention<T>(arguments, share, out, rows, first, last, 0, self);
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
