// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The gradient of attention: what all ways of computing it share, and the way without tensor cores.
// In the dialect of dialect.h.
//
// Scores are computed again from logsumexp. A group holds some queries, goes through the keys that
// they see and sums dq; or it holds some keys, goes through the queries that see them, of all
// heads, and sums dk and dv. So each sum is made by one group in one order, and results are always
// the same.
//
//   held      streamed   sums
//   q, dout   k, v       dq = scale * ds @ k
//   k, v      q, dout    dk = scale * ds^T @ q, dv = p^T @ dout
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_problem.h"

// What the gradient needs to know of a row of scores.
struct alignas(8) RowStatistics {
  float
      logsumexp;  // In powers of 2; infinity if the row sees nothing, so that probabilities are 0.
  float delta;    // The sum of out * dout.
};

constexpr MC_CONSTANT int kStatisticsThreads = 256;

// Eight lanes a row.
template <typename T>
MC_FUNCTION void attention_statistics(MC_CONSTANT AttentionGradientArguments& arguments,
                                      MC_GROUP char*, Thread self) {
  MC_CONSTANT AttentionProblem& p = arguments.problem;
  const int64_t rows = int64_t{p.batch} * p.heads * p.queries;
  const int64_t row = int64_t{self.group} * (kStatisticsThreads / 8) + self.index / 8;
  const int32_t head = int32_t(row / p.queries);
  const int32_t query = int32_t(row % p.queries);
  float delta = 0.0f;
  if (row < rows) {
    const HeadRows<T> out = head_rows<T>(arguments.out, arguments.out_strides, head / p.heads,
                                         head % p.heads, p.queries, p.value_width);
    const HeadRows<T> dout = head_rows<T>(arguments.dout, arguments.dout_strides, head / p.heads,
                                          head % p.heads, p.queries, p.value_width);
    for (int32_t column = int32_t(self.lane) % 8 * 8; column < p.value_width; column += 64) {
      const Chunk a = load_chunk(out.data + query * out.stride, column, p.value_width, out.aligned);
      const Chunk b =
          load_chunk(dout.data + query * dout.stride, column, p.value_width, dout.aligned);
      MC_UNROLL
      for (int i = 0; i < 8; ++i) delta = fmaf(a.at[i], b.at[i], delta);
    }
  }
  for (uint32_t mask = 4; mask > 0; mask >>= 1) delta += lane_shuffle_xor(delta, mask);
  if (row >= rows || self.lane % 8 != 0) return;
  const float logsumexp = static_cast<const MC_GLOBAL float*>(arguments.logsumexp)[row];
  static_cast<MC_GLOBAL RowStatistics*>(arguments.statistics)[row] = {
      logsumexp == -INFINITY ? INFINITY : logsumexp * MC_LOG2_E, delta};
}

// Sums the parts of dk or of dv.
template <typename T>
MC_FUNCTION void sum_parts(MC_CONSTANT SumPartsArguments& arguments, MC_GROUP char*, Thread self) {
  const int64_t i = int64_t{self.group} * self.size + self.index;
  if (i >= arguments.elements) return;
  const MC_GLOBAL float* const parts = static_cast<const MC_GLOBAL float*>(arguments.parts);
  float sum = 0.0f;
  for (int32_t j = 0; j < arguments.count; ++j) sum += parts[j * arguments.elements + i];
  const int64_t row = i / arguments.width;
  const int64_t matrix = row / arguments.keys;
  const int64_t at = matrix / arguments.key_heads * arguments.out_strides.batch +
                     matrix % arguments.key_heads * arguments.out_strides.head +
                     row % arguments.keys * arguments.out_strides.row + i % arguments.width;
  static_cast<MC_GLOBAL T*>(arguments.out)[at] = T(sum);
}

// The queries of a head that see some of the keys [begin, end).
MC_FUNCTION QueryRange queries_of_keys(MC_CONSTANT AttentionProblem& p, int32_t length,
                                       int32_t begin, int32_t end) {
  if (end > length) end = length;
  if (begin >= end) return {0, 0};
  if (p.causal == 0) return {0, p.queries};
  const int32_t shift = length - p.queries;  // The position of query 0.
  const int32_t first = begin > shift ? begin - shift : 0;
  int32_t last = p.queries;
  if (p.window > 0 && p.window < p.queries - (end - 1 - shift)) last = end - 1 - shift + p.window;
  return {first, last > first ? last : first};
}

// A group of 128 threads holds kRows queries or keys.
constexpr MC_CONSTANT int kGradientRowThreads = 128;

// Adds up what teams and warps have of the held rows' sums and writes them.
template <typename T, int kLanes, int kChunks, int kRows>
MC_FUNCTION void write_gradient_rows(MC_THREAD Chunk (&sums)[kRows][kChunks], float factor,
                                     MC_GROUP float* joined, MC_GLOBAL T* to, int64_t stride,
                                     int32_t rows, int32_t width, Thread self) {
  constexpr int kWidth = kLanes * kChunks * 8;
  constexpr int kWarps = kGradientRowThreads / 32;
  group_barrier();
  MC_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MC_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      MC_UNROLL
      for (int i = 0; i < 8; ++i) {
        MC_UNROLL
        for (uint32_t mask = kLanes; mask < 32; mask <<= 1) {
          sums[r][c].at[i] += lane_shuffle_xor(sums[r][c].at[i], mask);
        }
        if (self.lane < kLanes) {
          joined[(int32_t(self.warp) * kRows + r) * kWidth + (c * kLanes + int32_t(self.lane)) * 8 +
                 i] = sums[r][c].at[i];
        }
      }
    }
  }
  group_barrier();
  for (int32_t i = int32_t(self.index); i < rows * width; i += kGradientRowThreads) {
    const int32_t row = i / width;
    const int32_t column = i % width;
    float sum = 0.0f;
    for (int w = 0; w < kWarps; ++w) sum += joined[(w * kRows + row) * kWidth + column];
    to[row * stride + column] = T(sum * factor);
  }
}

template <typename T, int kLanes, int kChunks, int kRows, bool kHoldsQueries>
MC_FUNCTION void attention_gradient_rows(MC_CONSTANT AttentionGradientArguments& arguments,
                                         MC_GROUP char* memory, Thread self) {
  constexpr int kWidth = kLanes * kChunks * 8;
  constexpr int kTeams = kGradientRowThreads / kLanes;
  constexpr int kBatch = 2 / kChunks;  // Streamed rows that a team takes at once.
  constexpr int kStep = kTeams * kBatch;
  MC_CONSTANT AttentionProblem& p = arguments.problem;
  const int32_t heads = p.heads / p.key_heads;
  const int32_t all_rows = kHoldsQueries ? heads * p.queries : p.keys;
  const int32_t blocks = (all_rows + kRows - 1) / kRows;
  const int32_t number = int32_t(self.group) / blocks;
  const AttentionShare share = attention_share(p, number);
  const int32_t first = int32_t(self.group) % blocks * kRows;
  const int32_t rows = all_rows - first < kRows ? all_rows - first : kRows;

  const HeadRows<T> q = query_rows<T>(p, share, p.q, p.q_strides, p.width);
  const HeadRows<T> dout =
      query_rows<T>(p, share, arguments.dout, arguments.dout_strides, p.value_width);
  const HeadRows<T> k = key_rows<T>(p, share);
  const HeadRows<T> v = value_rows<T>(p, share);
  const HeadRows<T> held_1 = kHoldsQueries ? q : k;
  const HeadRows<T> held_2 = kHoldsQueries ? dout : v;
  const HeadRows<T> streamed_1 = kHoldsQueries ? k : q;
  const HeadRows<T> streamed_2 = kHoldsQueries ? v : dout;
  const MC_GLOBAL RowStatistics* const statistics =
      static_cast<const MC_GLOBAL RowStatistics*>(arguments.statistics) + share.first_row;

  MC_GROUP float* const held = reinterpret_cast<MC_GROUP float*>(memory);  // [2, kRows, kWidth]
  MC_GROUP float* const added = held + 2 * kRows * kWidth;  // By masks; then sums of warps.
  const int32_t readable = kHoldsQueries ? all_rows : share.length;
  for (int32_t i = int32_t(self.index) * 8; i < kRows * kWidth; i += kGradientRowThreads * 8) {
    const int32_t row = first + i / kWidth;
    const bool exists = row < readable;
    const int32_t safe = exists ? row : 0;
    const Chunk one =
        load_chunk(held_1.row(safe), i % kWidth, exists ? p.width : 0, held_1.aligned);
    const Chunk two =
        load_chunk(held_2.row(safe), i % kWidth, exists ? p.value_width : 0, held_2.aligned);
    for (int j = 0; j < 8; ++j) {
      held[i + j] = one.at[j];
      held[kRows * kWidth + i + j] = two.at[j];
    }
  }

  // Streamed rows [begin, end) of each of `repeats` heads.
  int32_t begin;
  int32_t end;
  if (kHoldsQueries) {
    const KeyRange seen =
        keys_of_some(p, share.length, queries_of_rows(p, first, first + rows - 1));
    begin = seen.begin;
    end = seen.end > begin ? seen.end : begin;
  } else {
    const QueryRange seeing = queries_of_keys(p, share.length, first, first + rows);
    begin = seeing.first;
    end = seeing.last;
  }
  const int32_t per_head = end - begin;
  const int32_t count = kHoldsQueries ? per_head : heads * per_head;

  const int32_t team = int32_t(self.index) / kLanes;
  const int32_t column = int32_t(self.index) % kLanes * 8;
  Chunk sums_1[kRows][kChunks];
  Chunk sums_2[kRows][kChunks];
  MC_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MC_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      MC_UNROLL
      for (int i = 0; i < 8; ++i) sums_1[r][c].at[i] = sums_2[r][c].at[i] = 0.0f;
    }
  }
  for (int32_t start = 0; start < count; start += kStep) {
    group_barrier();
    for (int32_t i = int32_t(self.index); i < kRows * kStep; i += kGradientRowThreads) {
      const int32_t at = start + i % kStep;
      const int32_t row = first + i / kStep;
      float value = -INFINITY;
      if (at < count && row < all_rows) {
        const int32_t other = begin + at % per_head;
        value = kHoldsQueries
                    ? masked_score(p, share, row, other, 0.0f)
                    : masked_score(p, share, at / per_head * p.queries + other, row, 0.0f);
        // Powers of 2 that the probability is less than.
        const int32_t query = kHoldsQueries ? row : at / per_head * p.queries + other;
        value -= statistics[query].logsumexp;
      }
      added[i] = value;
    }
    group_barrier();
    Chunk one[kBatch][kChunks];
    Chunk two[kBatch][kChunks];
    float delta[kBatch];
    MC_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      const int32_t at = start + b * kTeams + team;
      const bool exists = at < count;
      const int32_t row =
          exists ? (kHoldsQueries ? begin + at : at / per_head * p.queries + begin + at % per_head)
                 : 0;
      const MC_GLOBAL T* const row_1 = streamed_1.row(row);
      const MC_GLOBAL T* const row_2 = streamed_2.row(row);
      MC_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        const int32_t from = column + c * kLanes * 8;
        one[b][c] = load_chunk(row_1, from, exists ? p.width : 0, streamed_1.aligned);
        two[b][c] = load_chunk(row_2, from, exists ? p.value_width : 0, streamed_2.aligned);
      }
      delta[b] = !kHoldsQueries && exists ? statistics[row].delta : 0.0f;
    }
    MC_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) break;
      MC_UNROLL
      for (int b = 0; b < kBatch; ++b) {
        float score = 0.0f;
        float product = 0.0f;
        MC_UNROLL
        for (int c = 0; c < kChunks; ++c) {
          const MC_GROUP float* const mine = held + r * kWidth + column + c * kLanes * 8;
          MC_UNROLL
          for (int i = 0; i < 8; ++i) {
            score = fmaf(mine[i], one[b][c].at[i], score);
            product = fmaf(mine[kRows * kWidth + i], two[b][c].at[i], product);
          }
        }
        MC_UNROLL
        for (uint32_t mask = kLanes / 2; mask > 0; mask >>= 1) {
          score += lane_shuffle_xor(score, mask);
          product += lane_shuffle_xor(product, mask);
        }
        const float offset = added[r * kStep + b * kTeams + team];
        const float probability =
            offset == -INFINITY ? 0.0f : fast_exp2(fmaf(score, p.scale * MC_LOG2_E, offset));
        const float row_delta = kHoldsQueries ? statistics[first + r].delta : delta[b];
        const float slope = probability * (product - row_delta);
        MC_UNROLL
        for (int c = 0; c < kChunks; ++c) {
          MC_UNROLL
          for (int i = 0; i < 8; ++i) {
            sums_1[r][c].at[i] = fmaf(slope, one[b][c].at[i], sums_1[r][c].at[i]);
            if (!kHoldsQueries) {
              sums_2[r][c].at[i] = fmaf(probability, two[b][c].at[i], sums_2[r][c].at[i]);
            }
          }
        }
      }
    }
  }
  if (kHoldsQueries) {
    write_gradient_rows<T, kLanes, kChunks, kRows>(
        sums_1, p.scale, added,
        static_cast<MC_GLOBAL T*>(arguments.dq) + (share.first_row + first) * p.width, p.width,
        rows, p.width, self);
    return;
  }
  const int64_t row = int64_t{number} * p.keys + first;
  if (arguments.dk != nullptr) {
    write_gradient_rows<T, kLanes, kChunks, kRows>(
        sums_1, p.scale, added, static_cast<MC_GLOBAL T*>(arguments.dk) + row * p.width, p.width,
        rows, p.width, self);
  }
  if (arguments.dv != nullptr) {
    write_gradient_rows<T, kLanes, kChunks, kRows>(
        sums_2, 1.0f, added,
        static_cast<MC_GLOBAL T*>(arguments.dv) + keys_place(share, arguments.dv_strides) +
            first * arguments.dv_strides.row,
        arguments.dv_strides.row, rows, p.value_width, self);
  }
}

// Widths up to 64, 128, 256 and 512. 16-bit types have tensor cores up to 256.
#define MC_GRADIENT_ROWS(T, type, width, lanes, chunks, rows)                                     \
  MC_KERNEL(attention_dq_rows_##width##_##type, AttentionGradientArguments, kGradientRowThreads,  \
            (24 * (rows) * (width)), attention_gradient_rows<T, lanes, chunks, rows, true>);      \
  MC_KERNEL(attention_dkv_rows_##width##_##type, AttentionGradientArguments, kGradientRowThreads, \
            (24 * (rows) * (width)), attention_gradient_rows<T, lanes, chunks, rows, false>);
MC_GRADIENT_ROWS(float, f32, 64, 8, 1, 4)
MC_GRADIENT_ROWS(float, f32, 128, 16, 1, 4)
MC_GRADIENT_ROWS(float, f32, 256, 32, 1, 4)
MC_GRADIENT_ROWS(float, f32, 512, 32, 2, 2)
MC_GRADIENT_ROWS(half, f16, 512, 32, 2, 2)
MC_GRADIENT_ROWS(bfloat, bf16, 512, 32, 2, 2)
#ifndef __CUDACC__  // For groups of 32 KiB, which is too little for most tiles.
MC_GRADIENT_ROWS(half, f16, 256, 32, 1, 4)
MC_GRADIENT_ROWS(bfloat, bf16, 256, 32, 1, 4)
#endif
#undef MC_GRADIENT_ROWS

#define MC_GRADIENT_STATISTICS(T, type)                                                     \
  MC_KERNEL(attention_statistics_##type, AttentionGradientArguments, kStatisticsThreads, 0, \
            attention_statistics<T>);
MC_GRADIENT_STATISTICS(float, f32)
MC_GRADIENT_STATISTICS(half, f16)
MC_GRADIENT_STATISTICS(bfloat, bf16)
#undef MC_GRADIENT_STATISTICS
MC_KERNEL(attention_sum_parts_f16, SumPartsArguments, 256, 0, sum_parts<half>);
MC_KERNEL(attention_sum_parts_bf16, SumPartsArguments, 256, 0, sum_parts<bfloat>);
