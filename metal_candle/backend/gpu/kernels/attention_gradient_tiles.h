// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The gradient of attention on tensor cores (attention_gradient.h says what is held and what is
// streamed). In the dialect of dialect.h.
//
// A warp holds rows of scores, of queries or of keys, so probabilities and their slopes are the
// operands of the last products where they are, and only streamed rows are in group memory besides
// what is held.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_blocks.h"
#include "metal_candle/backend/gpu/kernels/attention_gradient.h"

// Rows of a gradient that a group writes: to `parts`, dense and in f32, if that is not null.
template <typename T>
struct GradientRows {
  MC_GLOBAL T* to;
  MC_GLOBAL float* parts;
  int64_t stride;  // Of `to`.
  int32_t width;
};

// Of dq, or of dk, of which this is part `split` if there are several; from row or key `first` of a
// share on.
template <typename T, bool kHoldsQueries>
MC_FUNCTION GradientRows<T> first_gradient(MC_CONSTANT AttentionGradientArguments& arguments,
                                           AttentionShare share, int32_t first, int32_t split) {
  MC_CONSTANT AttentionProblem& p = arguments.problem;
  if (kHoldsQueries) {
    return {static_cast<MC_GLOBAL T*>(arguments.dq) + (share.first_row + first) * p.width, nullptr,
            p.width, p.width};
  }
  const int64_t number = int64_t{share.batch} * p.key_heads + share.key_head;
  const int64_t key = number * p.keys + first;
  const int64_t part = int64_t{split} * p.batch * p.key_heads * p.keys;
  return {static_cast<MC_GLOBAL T*>(arguments.dk) + key * p.width,
          arguments.splits > 1
              ? static_cast<MC_GLOBAL float*>(arguments.dk_parts) + (part + key) * p.width
              : nullptr,
          p.width, p.width};
}
// Of dv.
template <typename T>
MC_FUNCTION GradientRows<T> value_gradient(MC_CONSTANT AttentionGradientArguments& arguments,
                                           AttentionShare share, int32_t first, int32_t split) {
  MC_CONSTANT AttentionProblem& p = arguments.problem;
  const int64_t number = int64_t{share.batch} * p.key_heads + share.key_head;
  const int64_t key = number * p.keys + first;
  const int64_t part = int64_t{split} * p.batch * p.key_heads * p.keys;
  return {static_cast<MC_GLOBAL T*>(arguments.dv) + keys_place(share, arguments.dv_strides) +
              first * arguments.dv_strides.row,
          arguments.splits > 1
              ? static_cast<MC_GLOBAL float*>(arguments.dv_parts) + (part + key) * p.value_width
              : nullptr,
          arguments.dv_strides.row, p.value_width};
}

// Writes a block's sums, times `factor`, as columns from first_column on.
template <typename T, int kColumns, int kTiles>
MC_FUNCTION void write_gradient_block(MC_THREAD const TileSums (&sums)[kTiles][kColumns / 8],
                                      int32_t first_column, float factor, GradientRows<T> gradient,
                                      int32_t rows, Thread self) {
  const int32_t width = gradient.width;
  MC_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    MC_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int32_t row = block_row<kTiles>(self, t) + 8 * h;
      if (row >= rows) continue;
      MC_UNROLL
      for (int n = 0; n < kColumns / 8; ++n) {
        const int32_t column = first_column + n * 8 + int32_t(tile_column(self.lane));
        const float left = sums[t][n].at[2 * h] * factor;
        const float right = sums[t][n].at[2 * h + 1] * factor;
        if (gradient.parts == nullptr) {
          store_pair(gradient.to + row * gradient.stride, column, width, left, right);
          continue;
        }
        MC_GLOBAL float* const part = gradient.parts + int64_t{row} * width;
        if (column < width) part[column] = left;
        if (column + 1 < width) part[column + 1] = right;
      }
    }
  }
}

// A place among the streamed rows: those of one head, then of the next.
struct StreamPlace {
  int32_t head, row;

  MC_FUNCTION void advance(int32_t rows, int32_t begin, int32_t end) {
    row += rows;
    if (row < end) return;
    row = begin;
    ++head;
  }
};

// Streamed rows of both kinds to group memory, and their statistics if they are queries.
template <typename T, int kStream, int kWidth, bool kHoldsQueries, int kThreads>
MC_FUNCTION void load_streamed(MC_GROUP T* to, MC_GROUP RowStatistics* statistics_to,
                               HeadRows<T> rows_1, HeadRows<T> rows_2,
                               const MC_GLOBAL RowStatistics* statistics, StreamPlace at,
                               int32_t end, Thread self) {
  if constexpr (!kHoldsQueries) {
    if (self.index < kStream) {
      const int32_t row = at.row + int32_t(self.index);
      copy_async<8>(statistics_to + self.index,
                    statistics + (row < end ? at.head * rows_1.head_rows + row : 0), row < end);
    }
    rows_1.data += at.head * rows_1.head_stride;
    rows_2.data += at.head * rows_2.head_stride;
  }
  copy_rows<T, kStream, kWidth, true, kThreads>(to, rows_1, at.row, end, self);
  copy_rows<T, kStream, kWidth, true, kThreads>(to + block_elements(kStream, kWidth), rows_2,
                                                at.row, end, self);
  copy_commit();
}

// What keeps queries from seeing keys, as a lane needs it.
template <int kTiles>
struct BlockView {
  int32_t row_end[kTiles][2];  // If queries are held: where what they see ends.
  int32_t query_end;           // If keys are held: the same of query 0, and what is added
  int32_t query_step;          // for the next one.
  int32_t first_key;           // If keys are held.
  int32_t window;
  const MC_GROUP float* mask;  // Added to each score; or null.
};

// Makes products q . k probabilities, and products dout . v slopes of the scores.
template <int kTiles, int kColumns, bool kHoldsQueries, bool kWhole>
MC_FUNCTION void scores_to_slopes(MC_THREAD TileSums (&scores)[kTiles][kColumns / 8],
                                  MC_THREAD TileSums (&slopes)[kTiles][kColumns / 8], float scale,
                                  MC_THREAD const RowStatistics (&row_statistics)[kTiles][2],
                                  const MC_GROUP RowStatistics* column_statistics,
                                  MC_THREAD const BlockView<kTiles>& view, int32_t start,
                                  Thread self) {
  MC_UNROLL
  for (int n = 0; n < kColumns / 8; ++n) {
    const int32_t column = n * 8 + int32_t(tile_column(self.lane));
    Packet<RowStatistics, 2> pair;
    if constexpr (!kHoldsQueries) {
      pair =
          *reinterpret_cast<const MC_GROUP Packet<RowStatistics, 2>*>(column_statistics + column);
    }
    MC_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      MC_UNROLL
      for (int i = 0; i < 4; ++i) {
        const RowStatistics known = kHoldsQueries ? row_statistics[t][i / 2] : pair.values[i % 2];
        float exponent = fmaf(scores[t][n].at[i], scale, -known.logsumexp);
        if constexpr (!kWhole) {
          const int32_t row = block_row<kTiles>(self, t) + i / 2 * 8;
          if (view.mask != nullptr) exponent += view.mask[row * kColumns + column + i % 2];
          const int32_t other = start + column + i % 2;
          // Keys from this one to the end of what its query sees.
          const int32_t back =
              kHoldsQueries ? view.row_end[t][i / 2] - other
                            : view.query_end + view.query_step * other - view.first_key - row;
          if (back <= 0 || back > view.window) exponent = -INFINITY;
        }
        const float probability = fast_exp2(exponent);
        scores[t][n].at[i] = probability;
        slopes[t][n].at[i] = probability * (slopes[t][n].at[i] - known.delta);
      }
    }
  }
}

// kStream: streamed rows that are loaded at once; kStages: such loads in group memory; kColumns:
// streamed rows whose scores are in registers at once. kFirst, kSecond: whether it can compute dq
// or dk, and dv.
template <typename T, int kWidth, int kTiles, int kStream, int kStages, bool kHoldsQueries,
          bool kFirst, bool kSecond, int kWarps = 4>
MC_FUNCTION void attention_gradient_tiles(MC_CONSTANT AttentionGradientArguments& arguments,
                                          MC_GROUP char* memory, Thread self) {
  constexpr int kThreads = 32 * kWarps;
  constexpr int kRows = 16 * kWarps * kTiles;
  constexpr int kColumns = kStream < 32 ? kStream : 32;
  constexpr int kStride = block_stride(kWidth);
  constexpr int kSteps = kWidth / 16;
  constexpr int kHeldElements = block_elements(kRows, kWidth);
  constexpr int kStreamElements = block_elements(kStream, kWidth);
  MC_CONSTANT AttentionProblem& p = arguments.problem;
  const uint32_t lane = self.lane;
  const int32_t shares = p.batch * p.key_heads;
  const int32_t heads = p.heads / p.key_heads;
  const int32_t number = int32_t(self.group) % shares;
  const AttentionShare share = attention_share(p, number);
  int32_t block = int32_t(self.group) / shares;
  const int32_t split = kHoldsQueries ? 0 : block % arguments.splits;
  block = kHoldsQueries ? row_block(p, kRows, block) : block / arguments.splits;
  const int32_t first = block * kRows;
  const int32_t all_rows = kHoldsQueries ? share.rows : p.keys;
  const int32_t rows = all_rows - first < kRows ? all_rows - first : kRows;

  // Held, [2, kRows, kWidth]; streamed, [kStages, 2, kStream, kWidth]; the streamed rows'
  // statistics and, if there is a mask, what it adds to each score.
  MC_GROUP T* const held = reinterpret_cast<MC_GROUP T*>(memory);
  MC_GROUP T* const streamed = held + 2 * kHeldElements;
  MC_GROUP RowStatistics* const streamed_statistics =
      reinterpret_cast<MC_GROUP RowStatistics*>(streamed + kStages * 2 * kStreamElements);
  MC_GROUP float* const mask = reinterpret_cast<MC_GROUP float*>(
      streamed_statistics + (kHoldsQueries ? 0 : kStages * kStream));
  const MC_GLOBAL RowStatistics* const statistics =
      static_cast<const MC_GLOBAL RowStatistics*>(arguments.statistics) + share.first_row;

  const HeadRows<T> q = query_rows<T>(p, share, p.q, p.q_strides, p.width);
  const HeadRows<T> dout =
      query_rows<T>(p, share, arguments.dout, arguments.dout_strides, p.value_width);
  const HeadRows<T> k = key_rows<T>(p, share);
  const HeadRows<T> v = value_rows<T>(p, share);
  const bool first_needed = kFirst && (kHoldsQueries || arguments.dk != nullptr);
  const bool second_needed = kSecond && arguments.dv != nullptr;

  // Streamed rows [begin, end) of heads [first_head, last_head), in `stages` loads.
  int32_t begin;
  int32_t end;
  int32_t first_head = 0;
  int32_t last_head = 1;
  const QueryRange among = queries_of_rows(p, first, first + rows - 1);
  const KeyRange all = keys_of_all(p, share.length, among);  // If queries are held.
  if constexpr (kHoldsQueries) {
    const KeyRange some = keys_of_some(p, share.length, among);
    begin = some.begin;
    end = some.end;
    copy_rows<T, kRows, kWidth, false, kThreads>(held, q, first, all_rows, self);
    copy_rows<T, kRows, kWidth, false, kThreads>(held + kHeldElements, dout, first, all_rows, self);
  } else {
    const QueryRange seeing = queries_of_keys(p, share.length, first, first + rows);
    begin = seeing.first;
    end = seeing.last;
    first_head = heads * split / arguments.splits;
    last_head = heads * (split + 1) / arguments.splits;
    copy_rows<T, kRows, kWidth, true, kThreads>(held, k, first, share.length, self);
    copy_rows<T, kRows, kWidth, true, kThreads>(held + kHeldElements, v, first, share.length, self);
  }
  copy_commit();
  const int32_t per_head = end > begin ? (end - begin + kStream - 1) / kStream : 0;
  const int32_t stages = (last_head - first_head) * per_head;

  BlockView<kTiles> view;
  view.query_step = p.causal != 0 ? 1 : 0;
  view.query_end = p.causal != 0 ? share.length - p.queries + 1 : share.length;
  view.window = p.causal != 0 && p.window > 0 ? p.window : 0x7fffffff;
  view.first_key = first;
  view.mask = p.mask != nullptr ? mask : nullptr;
  RowStatistics row_statistics[kTiles][2];
  MC_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    MC_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int32_t row = first + block_row<kTiles>(self, t) + 8 * h;
      view.row_end[t][h] = view.query_end + view.query_step * (row % p.queries);
      row_statistics[t][h] = {INFINITY, 0.0f};
      if (kHoldsQueries && row < all_rows) row_statistics[t][h] = statistics[row];
    }
  }

  const int32_t my_row = int32_t(self.warp) * (16 * kTiles);
  const float scale = p.scale * MC_LOG2_E;
  TileSums sums_1[kTiles][kFirst ? kWidth / 8 : 1];
  TileSums sums_2[kTiles][kSecond ? kWidth / 8 : 1];
  clear_sums(sums_1);
  clear_sums(sums_2);

  StreamPlace place{first_head, begin};
  StreamPlace next = place;
  const HeadRows<T> streamed_1 = kHoldsQueries ? k : q;
  const HeadRows<T> streamed_2 = kHoldsQueries ? v : dout;
  if (stages > 0) {
    load_streamed<T, kStream, kWidth, kHoldsQueries, kThreads>(
        streamed, streamed_statistics, streamed_1, streamed_2, statistics, next, end, self);
  }
  for (int32_t stage = 0; stage < stages; ++stage) {
    const int32_t buffer = stage % kStages;
    copy_wait<0>();
    group_barrier();  // This load is there, and nobody needs the one before.
    next.advance(kStream, begin, end);
    if (kStages > 1 && stage + 1 < stages) {
      load_streamed<T, kStream, kWidth, kHoldsQueries, kThreads>(
          streamed + (kStages - 1 - buffer) * (2 * kStreamElements),
          streamed_statistics + (kStages - 1 - buffer) * kStream, streamed_1, streamed_2,
          statistics, next, end, self);
    }

    const MC_GROUP T* const stage_rows = streamed + buffer * (2 * kStreamElements);
    for (int32_t from = 0; from < kStream && place.row + from < end; from += kColumns) {
      const MC_GROUP T* const rows_1 = stage_rows + from * kStride;
      const MC_GROUP T* const rows_2 = rows_1 + kStreamElements;
      const int32_t start = place.row + from;  // The first streamed row.
      if (p.mask != nullptr) {
        group_barrier();
        for (int32_t i = int32_t(self.index); i < kRows * kColumns; i += kThreads) {
          const int32_t held_row = first + i / kColumns;
          const int32_t other = start + i % kColumns;
          mask[i] = kHoldsQueries ? masked_score(p, share, held_row, other, 0.0f)
                    : other < p.queries
                        ? masked_score(p, share, place.head * p.queries + other, held_row, 0.0f)
                        : -INFINITY;
        }
        group_barrier();
      }
      TileSums scores[kTiles][kColumns / 8];
      TileSums slopes[kTiles][kColumns / 8];
      clear_sums(scores);
      clear_sums(slopes);
      MC_UNROLL
      for (int s = 0; s < kSteps; ++s) {
        Tiles4 a[kTiles];
        MC_UNROLL
        for (int t = 0; t < kTiles; ++t) {
          a[t] = load_tiles(held + (my_row + t * 16) * kStride + s * 16, kStride, lane);
        }
        multiply_rows<T, kTiles, kColumns, kStride>(scores, a, rows_1 + s * 16, lane);
      }
      if (first_needed) {
        MC_UNROLL
        for (int s = 0; s < kSteps; ++s) {
          Tiles4 a[kTiles];
          MC_UNROLL
          for (int t = 0; t < kTiles; ++t) {
            a[t] = load_tiles(held + kHeldElements + (my_row + t * 16) * kStride + s * 16, kStride,
                              lane);
          }
          multiply_rows<T, kTiles, kColumns, kStride>(slopes, a, rows_2 + s * 16, lane);
        }
      }

      bool whole = p.mask == nullptr;
      if constexpr (kHoldsQueries) {
        whole = whole && start >= all.begin && start + kColumns <= all.end;
      } else {
        const int32_t last = start + kColumns < end ? start + kColumns - 1 : end - 1;
        const KeyRange seen = keys_of_all(p, share.length, QueryRange{start, last});
        whole = whole && first >= seen.begin && first + kRows <= seen.end;
      }
      const MC_GROUP RowStatistics* const column_statistics =
          streamed_statistics + buffer * kStream + from;
      if (whole) {
        scores_to_slopes<kTiles, kColumns, kHoldsQueries, true>(
            scores, slopes, scale, row_statistics, column_statistics, view, start, self);
      } else {
        scores_to_slopes<kTiles, kColumns, kHoldsQueries, false>(
            scores, slopes, scale, row_statistics, column_statistics, view, start, self);
      }
      MC_UNROLL
      for (int s = 0; s < kColumns / 16; ++s) {
        Tiles4 a[kTiles];
        if constexpr (kFirst) {
          if (first_needed) {
            MC_UNROLL
            for (int t = 0; t < kTiles; ++t) {
              a[t] = pack_sums<T>(slopes[t][2 * s], slopes[t][2 * s + 1]);
            }
            multiply_columns<T, kTiles, kWidth>(sums_1, a, rows_1 + s * 16 * kStride, lane);
          }
        }
        if constexpr (kSecond) {
          if (second_needed) {
            MC_UNROLL
            for (int t = 0; t < kTiles; ++t) {
              a[t] = pack_sums<T>(scores[t][2 * s], scores[t][2 * s + 1]);
            }
            multiply_columns<T, kTiles, kWidth>(sums_2, a, rows_2 + s * 16 * kStride, lane);
          }
        }
      }
    }
    place.advance(kStream, begin, end);
    if (kStages == 1 && stage + 1 < stages) {
      group_barrier();
      load_streamed<T, kStream, kWidth, kHoldsQueries, kThreads>(
          streamed, streamed_statistics, streamed_1, streamed_2, statistics, next, end, self);
    }
  }
  copy_wait<0>();

  if constexpr (kFirst) {
    if (first_needed) {
      write_gradient_block<T, kWidth, kTiles>(
          sums_1, 0, p.scale, first_gradient<T, kHoldsQueries>(arguments, share, first, split),
          rows, self);
    }
  }
  if constexpr (kSecond) {
    if (second_needed) {
      write_gradient_block<T, kWidth, kTiles>(
          sums_2, 0, 1.0f, value_gradient<T>(arguments, share, first, split), rows, self);
    }
  }
}

// Widths up to 64, 128 and 256. Of the last, dk and dv together would not fit in registers.
#define MC_GRADIENT_TILES(T, type, name, width, tiles, stream, stages, queries, one, two)  \
  MC_KERNEL_DYNAMIC(attention_##name##_tiles_##width##_##type, AttentionGradientArguments, \
                    kBlockThreads,                                                         \
                    attention_gradient_tiles<T, width, tiles, stream, stages, queries, one, two>);
#define MC_GRADIENT_TILES_OF(T, type)                               \
  MC_GRADIENT_TILES(T, type, dq, 64, 2, 64, 2, true, true, false)   \
  MC_GRADIENT_TILES(T, type, dkv, 64, 2, 64, 2, false, true, true)  \
  MC_GRADIENT_TILES(T, type, dq, 128, 1, 32, 2, true, true, false)  \
  MC_GRADIENT_TILES(T, type, dkv, 128, 1, 32, 2, false, true, true) \
  MC_GRADIENT_TILES(T, type, dq, 256, 1, 16, 1, true, true, false)  \
  MC_GRADIENT_TILES(T, type, dk, 256, 1, 16, 1, false, true, false) \
  MC_GRADIENT_TILES(T, type, dv, 256, 1, 16, 1, false, false, true)
MC_GRADIENT_TILES_OF(half, f16)
MC_GRADIENT_TILES_OF(bfloat, bf16)
#undef MC_GRADIENT_TILES
#undef MC_GRADIENT_TILES_OF

// In 32 KiB of a group's memory, widths up to 64 and, with half as many rows, 128, where dk and dv
// together would not fit in an Apple GPU's registers. NVIDIA GPUs all have more of both.
#ifndef __CUDACC__
#define MC_SMALL_GRADIENT_TILES(T, type, name, width, warps, queries, one, two)                  \
  MC_KERNEL_DYNAMIC(attention_small_##name##_tiles_##width##_##type, AttentionGradientArguments, \
                    32 * (warps),                                                                \
                    attention_gradient_tiles<T, width, 1, 16, 1, queries, one, two, warps>);
#define MC_SMALL_GRADIENT_TILES_OF(T, type)                        \
  MC_SMALL_GRADIENT_TILES(T, type, dq, 64, 4, true, true, false)   \
  MC_SMALL_GRADIENT_TILES(T, type, dkv, 64, 4, false, true, true)  \
  MC_SMALL_GRADIENT_TILES(T, type, dq, 128, 2, true, true, false)  \
  MC_SMALL_GRADIENT_TILES(T, type, dk, 128, 2, false, true, false) \
  MC_SMALL_GRADIENT_TILES(T, type, dv, 128, 2, false, false, true)
MC_SMALL_GRADIENT_TILES_OF(half, f16)
MC_SMALL_GRADIENT_TILES_OF(bfloat, bf16)
#undef MC_SMALL_GRADIENT_TILES
#undef MC_SMALL_GRADIENT_TILES_OF
#endif
