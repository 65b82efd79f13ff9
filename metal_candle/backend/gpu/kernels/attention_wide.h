// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Attention of widths up to 128, without a mask, by wide products: as attention_tiles.h has it,
// with 64 rows a group, and several groups on a multiprocessor, one of which multiplies while
// another makes probabilities. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_tiles.h"
#include "metal_candle/backend/gpu/kernels/attention_wide_blocks.h"

#if defined(MC_HAS_WIDE_PRODUCTS)

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

  memory += -reinterpret_cast<uint64_t>(memory) & 1023;
  MC_GROUP T* const queries = reinterpret_cast<MC_GROUP T*>(memory);
  MC_GROUP T* const keys = queries + kElements;
  MC_GROUP T* const values = keys + kElements;
  const HeadRows<T> k = key_rows<T>(p, share);
  const HeadRows<T> v = value_rows<T>(p, share);
  copy_wide_rows<T, kBlocks, false>(queries, query_rows<T>(p, share, p.q, p.q_strides, p.width),
                                    first, share.rows, self);
  if (some.begin < some.end) {
    copy_wide_rows<T, kBlocks, true>(keys, k, some.begin, some.end, self);
  }
  copy_commit();

  const int32_t window = p.causal != 0 && p.window > 0 ? p.window : 0x7fffffff;
  RunningRows<1> rows = start_rows<1>(p, share.length, first, self);
  TileSums out[kBlocks][1][8];
  MC_UNROLL
  for (int b = 0; b < kBlocks; ++b) clear_sums(out[b]);

  for (int32_t start = some.begin; start < some.end; start += kWideRows) {
    copy_wait<0>();
    wide_publish();
    group_barrier();  // The keys are there, and nobody needs the last values.
    copy_wide_rows<T, kBlocks, true>(values, v, start, some.end, self);
    copy_commit();
    TileSums scores[1][8];
    wide_begin();
    multiply_wide_all_rows<T, kBlocks>(scores[0], queries, keys, self);
    wide_commit();
    wide_wait<0>();
    wide_settle(scores[0]);
    copy_wait<0>();
    wide_publish();
    group_barrier();  // The values are there, and nobody needs the keys.
    if (start + kWideRows < some.end) {
      copy_wide_rows<T, kBlocks, true>(keys, k, start + kWideRows, some.end, self);
    }
    copy_commit();

    // A scale below 0 would turn the largest product into the least score.
    float scale = p.scale * MC_LOG2_E;
    if (!(start >= all.begin && start + kWideRows <= all.end && scale > 0.0f)) {
      hide_scores<1, kWideRows>(scores, rows, start, window, scale, nullptr, self);
      scale = 1.0f;
    }
    float correction[1][2];
    scores_to_probabilities<1, kWideRows>(scores, rows, scale, correction);
    Tiles4 probability[4];
    pack_wide<T>(scores[0], probability);
    MC_UNROLL
    for (int b = 0; b < kBlocks; ++b) correct_sums(out[b], correction);
    wide_begin();
    multiply_wide_all_columns<T, kBlocks>(out, probability, values, self);
    wide_commit();
    wide_wait<0>();
    MC_UNROLL
    for (int b = 0; b < kBlocks; ++b) wide_settle(out[b][0]);
  }
  copy_wait<0>();
  MC_UNROLL
  for (int b = 0; b < kBlocks; ++b) {
    write_attention<T>(arguments, share, out[b], rows, first, last, 64 * b, self);
  }
}

// By width; groups on a multiprocessor as registers allow.
#define MC_ATTENTION_WIDE(T, type)                                                    \
  MC_KERNEL_RESIDENT(attention_wide_64_##type, AttentionArguments, kBlockThreads, 4,  \
                     attention_wide<T, 1>);                                           \
  MC_KERNEL_RESIDENT(attention_wide_128_##type, AttentionArguments, kBlockThreads, 3, \
                     attention_wide<T, 2>);
MC_ATTENTION_WIDE(half, f16)
MC_ATTENTION_WIDE(bfloat, bf16)
#undef MC_ATTENTION_WIDE

#endif  // defined(MC_HAS_WIDE_PRODUCTS)
