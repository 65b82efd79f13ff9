// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Attention of widths up to 128, without a mask, by wide products, after Shah et al.,
// "FlashAttention-3" (2024). In the dialect of dialect.h.
//
// A group has 64 rows, whose queries it keeps in registers. While values are multiplied by
// probabilities, the next ones are made of their scores; other groups of the multiprocessor fill
// what time is left. Groups of 128 or 256 rows would read keys less often, and are slower: their
// warps wait for each other.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_tiles.h"
#include "metal_candle/backend/gpu/kernels/attention_wide_blocks.h"

#if defined(MC_HAS_WIDE_PRODUCTS)

// What a group has of its rows: queries and scores, or what these have become, in registers.
template <typename T, int kBlocks>
struct WideRows {
  Tiles4 queries[kBlocks][4];
  TileSums scores[1][8];
  Tiles4 probability[4];
  TileSums out[kBlocks][1][8];
  RunningRows<1> rows;
  float correction[1][2];
};

// Scores of 64 keys from `start` on become probabilities.
template <typename T, int kBlocks>
MC_FUNCTION void wide_probabilities(MC_CONSTANT AttentionProblem& p,
                                    MC_THREAD WideRows<T, kBlocks>& mine, KeyRange all,
                                    int32_t start, int32_t window, Thread self) {
  // A scale below 0 would turn the largest product into the least score.
  float scale = p.scale * MC_LOG2_E;
  if (!(start >= all.begin && start + kWideRows <= all.end && scale > 0.0f)) {
    hide_scores<1, kWideRows>(mine.scores, mine.rows, start, window, scale, nullptr, self);
    scale = 1.0f;
  }
  scores_to_probabilities<1, kWideRows>(mine.scores, mine.rows, scale, mine.correction);
}

// kBlocks: of 64 columns.
template <typename T, int kBlocks>
MC_FUNCTION void attention_wide(MC_CONSTANT AttentionArguments& arguments, MC_GROUP char* memory,
                                Thread self) {
  constexpr int kElements = kBlocks * kWideElements;
  MC_CONSTANT AttentionProblem& p = arguments.problem;
  const int32_t shares = p.batch * p.key_heads;
  const AttentionShare share = attention_share(p, int32_t(self.group) % shares);
  const int32_t first = row_block(p, kWideRows, int32_t(self.group) / shares) * kWideRows;
  const int32_t last = (first + kWideRows < share.rows ? first + kWideRows : share.rows) - 1;
  const QueryRange among = queries_of_rows(p, first, last);
  const KeyRange some = keys_of_some(p, share.length, among);
  const KeyRange all = keys_of_all(p, share.length, among);

  // Two blocks of keys and of values, and one of queries.
  memory += -reinterpret_cast<uint64_t>(memory) & 1023;
  MC_GROUP T* const keys = reinterpret_cast<MC_GROUP T*>(memory);
  MC_GROUP T* const values = keys + 2 * kElements;
  MC_GROUP T* const queries = values + 2 * kElements;
  const HeadRows<T> k = key_rows<T>(p, share);
  const HeadRows<T> v = value_rows<T>(p, share);
  copy_wide_rows<T, kBlocks, false>(queries, query_rows<T>(p, share, p.q, p.q_strides, p.width),
                                    first, share.rows, self);
  if (some.begin < some.end) {
    copy_wide_rows<T, kBlocks, true>(keys, k, some.begin, some.end, self);
  }
  copy_commit();

  const int32_t window = p.causal != 0 && p.window > 0 ? p.window : 0x7fffffff;
  WideRows<T, kBlocks> mine;
  mine.rows = start_rows<1>(p, share.length, first, self);
  MC_UNROLL
  for (int b = 0; b < kBlocks; ++b) clear_sums(mine.out[b]);

  copy_wait<0>();
  wide_publish();
  group_barrier();
  if (some.begin < some.end) {
    copy_wide_rows<T, kBlocks, true>(keys + kElements, k, some.begin + kWideRows, some.end, self);
    copy_wide_rows<T, kBlocks, true>(values, v, some.begin, some.end, self);
    copy_commit();
    hold_wide_rows<T, kBlocks>(mine.queries, queries, self);
    wide_begin();
    multiply_held_all_rows<T, kBlocks>(mine.scores[0], mine.queries, keys, self);
    wide_commit();
    wide_wait<0>();
    wide_settle(mine.scores[0]);
    wide_probabilities(p, mine, all, some.begin, window, self);
    pack_wide<T>(mine.scores[0], mine.probability);

    // While values are multiplied by probabilities, the next ones are made of their scores.
    int32_t stage = 0;
    for (int32_t next = some.begin + kWideRows; next < some.end; next += kWideRows) {
      copy_wait<0>();
      wide_publish();
      group_barrier();  // The values and the next keys are there; nobody needs those before.
      copy_wide_rows<T, kBlocks, true>(keys + stage * kElements, k, next + kWideRows, some.end,
                                       self);
      copy_wide_rows<T, kBlocks, true>(values + (1 - stage) * kElements, v, next, some.end, self);
      copy_commit();
      wide_begin();
      multiply_held_all_rows<T, kBlocks>(mine.scores[0], mine.queries,
                                         keys + (1 - stage) * kElements, self);
      wide_commit();
      multiply_wide_all_columns<T, kBlocks>(mine.out, mine.probability, values + stage * kElements,
                                            self);
      wide_commit();
      wide_wait<1>();
      wide_settle(mine.scores[0]);
      wide_probabilities(p, mine, all, next, window, self);
      wide_wait<0>();
      MC_UNROLL
      for (int b = 0; b < kBlocks; ++b) wide_settle(mine.out[b][0]);
      if (any_correction<1>(mine.correction)) {
        MC_UNROLL
        for (int b = 0; b < kBlocks; ++b) correct_sums(mine.out[b], mine.correction);
      }
      pack_wide<T>(mine.scores[0], mine.probability);
      stage = 1 - stage;
    }
    copy_wait<0>();
    wide_publish();
    group_barrier();
    wide_begin();
    multiply_wide_all_columns<T, kBlocks>(mine.out, mine.probability, values + stage * kElements,
                                          self);
    wide_commit();
    wide_wait<0>();
    MC_UNROLL
    for (int b = 0; b < kBlocks; ++b) wide_settle(mine.out[b][0]);
  }
  MC_UNROLL
  for (int b = 0; b < kBlocks; ++b) {
    write_attention<T>(arguments, share, mine.out[b], mine.rows, first, last, 64 * b, self);
  }
}

// By width; groups on a multiprocessor as registers allow.
#define MC_ATTENTION_WIDE(T, type, width, groups)                                                \
  MC_KERNEL_RESIDENT(attention_wide_##width##_##type, AttentionArguments, kBlockThreads, groups, \
                     attention_wide<T, (width) / 64>);
MC_ATTENTION_WIDE(half, f16, 64, 4)
MC_ATTENTION_WIDE(half, f16, 128, 2)
MC_ATTENTION_WIDE(bfloat, bf16, 64, 4)
MC_ATTENTION_WIDE(bfloat, bf16, 128, 2)
#undef MC_ATTENTION_WIDE

#endif  // defined(MC_HAS_WIDE_PRODUCTS)
