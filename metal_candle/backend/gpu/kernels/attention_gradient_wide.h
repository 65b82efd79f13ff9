// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The gradient of attention of widths up to 128, without a mask, by wide products: as
// attention_gradient_tiles.h has it, with 64 held rows a group and 64 streamed rows at a time, and
// several groups on a multiprocessor, one of which multiplies while another makes probabilities.
// In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_gradient_tiles.h"
#include "metal_candle/backend/gpu/kernels/attention_wide_blocks.h"

#if defined(MC_HAS_WIDE_PRODUCTS)

constexpr MC_CONSTANT int kWideStages = 2;

// Streamed rows of both kinds, and their statistics if they are queries.
template <typename T, int kBlocks, bool kHoldsQueries>
MC_FUNCTION void load_wide_streamed(MC_GROUP T* to, MC_GROUP RowStatistics* statistics_to,
                                    HeadRows<T> rows_1, HeadRows<T> rows_2,
                                    const MC_GLOBAL RowStatistics* statistics, StreamPlace at,
                                    int32_t end, Thread self) {
  if constexpr (!kHoldsQueries) {
    if (self.index < kWideRows) {
      const int32_t row = at.row + int32_t(self.index);
      copy_async<8>(statistics_to + self.index,
                    statistics + (row < end ? at.head * rows_1.head_rows + row : 0), row < end);
    }
    rows_1.data += at.head * rows_1.head_stride;
    rows_2.data += at.head * rows_2.head_stride;
  }
  copy_wide_rows<T, kBlocks, true>(to, rows_1, at.row, end, self);
  copy_wide_rows<T, kBlocks, true>(to + kBlocks * kWideElements, rows_2, at.row, end, self);
  copy_commit();
}

// kBlocks: of 64 columns.
template <typename T, int kBlocks, bool kHoldsQueries>
MC_FUNCTION void attention_gradient_wide(MC_CONSTANT AttentionGradientArguments& arguments,
                                         MC_GROUP char* memory, Thread self) {
  MC_CONSTANT AttentionProblem& p = arguments.problem;
  const int32_t shares = p.batch * p.key_heads;
  const int32_t heads = p.heads / p.key_heads;
  const int32_t number = int32_t(self.group) % shares;
  const AttentionShare share = attention_share(p, number);
  int32_t block = int32_t(self.group) / shares;
  const int32_t split = kHoldsQueries ? 0 : block % arguments.splits;
  block = kHoldsQueries ? row_block(p, kWideRows, block) : block / arguments.splits;
  const int32_t first = block * kWideRows;
  const int32_t all_rows = kHoldsQueries ? share.rows : p.keys;
  const int32_t rows = all_rows - first < kWideRows ? all_rows - first : kWideRows;

  // Held, [2, kBlocks] blocks; streamed, [kWideStages, 2, kBlocks] blocks; the streamed rows'
  // statistics.
  constexpr int kElements = kBlocks * kWideElements;
  memory += -reinterpret_cast<uint64_t>(memory) & 1023;
  MC_GROUP T* const held = reinterpret_cast<MC_GROUP T*>(memory);
  MC_GROUP T* const streamed = held + 2 * kElements;
  MC_GROUP RowStatistics* const streamed_statistics =
      reinterpret_cast<MC_GROUP RowStatistics*>(streamed + kWideStages * 2 * kElements);
  const MC_GLOBAL RowStatistics* const statistics =
      static_cast<const MC_GLOBAL RowStatistics*>(arguments.statistics) + share.first_row;

  const HeadRows<T> q = query_rows<T>(p, share, p.q, p.q_strides, p.width);
  const HeadRows<T> dout =
      query_rows<T>(p, share, arguments.dout, arguments.dout_strides, p.value_width);
  const HeadRows<T> k = key_rows<T>(p, share);
  const HeadRows<T> v = value_rows<T>(p, share);

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
    copy_wide_rows<T, kBlocks, false>(held, q, first, all_rows, self);
    copy_wide_rows<T, kBlocks, false>(held + kElements, dout, first, all_rows, self);
  } else {
    const QueryRange seeing = queries_of_keys(p, share.length, first, first + rows);
    begin = seeing.first;
    end = seeing.last;
    first_head = heads * split / arguments.splits;
    last_head = heads * (split + 1) / arguments.splits;
    copy_wide_rows<T, kBlocks, true>(held, k, first, share.length, self);
    copy_wide_rows<T, kBlocks, true>(held + kElements, v, first, share.length, self);
  }
  copy_commit();
  const int32_t per_head = end > begin ? (end - begin + kWideRows - 1) / kWideRows : 0;
  const int32_t stages = (last_head - first_head) * per_head;

  BlockView<1> view;
  view.query_step = p.causal != 0 ? 1 : 0;
  view.query_end = p.causal != 0 ? share.length - p.queries + 1 : share.length;
  view.window = p.causal != 0 && p.window > 0 ? p.window : 0x7fffffff;
  view.first_key = first;
  view.mask = nullptr;
  RowStatistics row_statistics[1][2];
  MC_UNROLL
  for (int h = 0; h < 2; ++h) {
    const int32_t row = first + block_row<1>(self, 0) + 8 * h;
    view.row_end[0][h] = view.query_end + view.query_step * (row % p.queries);
    row_statistics[0][h] = {INFINITY, 0.0f};
    if (kHoldsQueries && row < all_rows) row_statistics[0][h] = statistics[row];
  }

  const float scale = p.scale * MC_LOG2_E;
  TileSums sums_1[kBlocks][1][8];
  TileSums sums_2[kBlocks][1][8];  // If keys are held.
  MC_UNROLL
  for (int b = 0; b < kBlocks; ++b) {
    clear_sums(sums_1[b]);
    clear_sums(sums_2[b]);
  }

  StreamPlace place{first_head, begin};
  StreamPlace next = place;
  const HeadRows<T> streamed_1 = kHoldsQueries ? k : q;
  const HeadRows<T> streamed_2 = kHoldsQueries ? v : dout;
  if (stages > 0) {
    load_wide_streamed<T, kBlocks, kHoldsQueries>(streamed, streamed_statistics, streamed_1,
                                                  streamed_2, statistics, next, end, self);
  }
  for (int32_t stage = 0; stage < stages; ++stage) {
    const int32_t buffer = stage % kWideStages;
    copy_wait<0>();
    wide_publish();
    group_barrier();  // This load is there, and nobody needs the one before.
    next.advance(kWideRows, begin, end);
    if (stage + 1 < stages) {
      load_wide_streamed<T, kBlocks, kHoldsQueries>(
          streamed + (kWideStages - 1 - buffer) * (2 * kElements),
          streamed_statistics + (kWideStages - 1 - buffer) * kWideRows, streamed_1, streamed_2,
          statistics, next, end, self);
    }

    const MC_GROUP T* const rows_1 = streamed + buffer * (2 * kElements);
    const MC_GROUP T* const rows_2 = rows_1 + kElements;
    TileSums scores[1][8];
    TileSums slopes[1][8];
    wide_begin();
    multiply_wide_all_rows<T, kBlocks>(scores[0], held, rows_1, self);
    multiply_wide_all_rows<T, kBlocks>(slopes[0], held + kElements, rows_2, self);
    wide_commit();
    bool whole;
    if constexpr (kHoldsQueries) {
      whole = place.row >= all.begin && place.row + kWideRows <= all.end;
    } else {
      const int32_t last = place.row + kWideRows < end ? place.row + kWideRows - 1 : end - 1;
      const KeyRange seen = keys_of_all(p, share.length, QueryRange{place.row, last});
      whole = first >= seen.begin && first + kWideRows <= seen.end;
    }
    const MC_GROUP RowStatistics* const column_statistics =
        streamed_statistics + buffer * kWideRows;
    wide_wait<0>();
    wide_settle(scores[0]);
    wide_settle(slopes[0]);
    if (whole) {
      scores_to_slopes<1, kWideRows, kHoldsQueries, true>(scores, slopes, scale, row_statistics,
                                                          column_statistics, view, place.row, self);
    } else {
      scores_to_slopes<1, kWideRows, kHoldsQueries, false>(
          scores, slopes, scale, row_statistics, column_statistics, view, place.row, self);
    }
    Tiles4 probability[4];
    Tiles4 slope[4];
    if constexpr (!kHoldsQueries) pack_wide<T>(scores[0], probability);
    pack_wide<T>(slopes[0], slope);
    wide_begin();
    if constexpr (!kHoldsQueries) {
      multiply_wide_all_columns<T, kBlocks>(sums_2, probability, rows_2, self);
    }
    multiply_wide_all_columns<T, kBlocks>(sums_1, slope, rows_1, self);
    wide_commit();
    wide_wait<0>();
    MC_UNROLL
    for (int b = 0; b < kBlocks; ++b) {
      wide_settle(sums_1[b][0]);
      if constexpr (!kHoldsQueries) wide_settle(sums_2[b][0]);
    }
    place.advance(kWideRows, begin, end);
  }
  copy_wait<0>();

  MC_UNROLL
  for (int b = 0; b < kBlocks; ++b) {
    if (kHoldsQueries || arguments.dk != nullptr) {
      write_gradient_block<T, 64, 1>(
          sums_1[b], 64 * b, p.scale,
          first_gradient<T, kHoldsQueries>(arguments, share, first, split), rows, self);
    }
    if constexpr (!kHoldsQueries) {
      if (arguments.dv != nullptr) {
        write_gradient_block<T, 64, 1>(
            sums_2[b], 64 * b, 1.0f, value_gradient<T>(arguments, share, first, split), rows, self);
      }
    }
  }
}

// By width; groups on a multiprocessor as registers and memory allow.
#define MC_GRADIENT_WIDE(T, type, name, width, groups, queries)                            \
  MC_KERNEL_RESIDENT(attention_##name##_wide_##width##_##type, AttentionGradientArguments, \
                     kBlockThreads, groups, attention_gradient_wide<T, width / 64, queries>);
#define MC_GRADIENT_WIDE_OF(T, type)           \
  MC_GRADIENT_WIDE(T, type, dq, 64, 4, true)   \
  MC_GRADIENT_WIDE(T, type, dkv, 64, 3, false) \
  MC_GRADIENT_WIDE(T, type, dq, 128, 2, true)  \
  MC_GRADIENT_WIDE(T, type, dkv, 128, 2, false)
MC_GRADIENT_WIDE_OF(half, f16)
MC_GRADIENT_WIDE_OF(bfloat, bf16)
#undef MC_GRADIENT_WIDE
#undef MC_GRADIENT_WIDE_OF

#endif  // defined(MC_HAS_WIDE_PRODUCTS)
