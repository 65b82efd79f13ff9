// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Attention without tensor cores: for few rows, as in decoding, and for what the tensor cores do
// not take. In the dialect of dialect.h.
//
// A group has a few rows, all heads of which read the same keys, and a part of those keys. A team
// of lanes holds one key at a time, 8 elements a lane and chunk, so that a key is one contiguous
// read, and keeps a softmax of its own (Milakov and Gimelshein, 2018) for every row; teams and then
// parts are joined at the end, and nothing in the loop waits for other warps.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_problem.h"

constexpr MC_CONSTANT int kAttentionRowThreads = 128;

// Parts of what the rows of a tile see. A function of the length on the device, since the host does
// not know it: parts that are not active do nothing.
struct KeyParts {
  int32_t length;  // Of a part.
  int32_t active;
};
MC_FUNCTION KeyParts key_parts(MC_CONSTANT AttentionArguments& arguments, KeyRange range) {
  const int32_t count = range.end - range.begin;
  if (count <= 0) return {0, 0};
  const int32_t unit = arguments.split_unit;
  const int32_t units = (count + unit - 1) / unit;
  const int32_t length = (units + arguments.splits - 1) / arguments.splits * unit;
  return {length, (count + length - 1) / length};
}

// What rows [first, first + rows) see together.
MC_FUNCTION KeyRange keys_of_tile(MC_CONSTANT AttentionProblem& p, AttentionShare share,
                                  int32_t first, int32_t rows) {
  return keys_of_some(p, share.length, queries_of_rows(p, first, first + rows - 1));
}

// exp2(a - b), 0 where a is -infinity.
MC_FUNCTION float shrink(float a, float b) { return a == -INFINITY ? 0.0f : fast_exp2(a - b); }

MC_FUNCTION void write_logsumexp(MC_GLOBAL void* logsumexp, int64_t row, float top, float sum) {
  if (logsumexp == nullptr) return;
  static_cast<MC_GLOBAL float*>(logsumexp)[row] =
      sum == 0.0f ? -INFINITY : MC_LN_2 * top + logf(sum);
}

template <typename T, int kLanes, int kChunks, int kRows>
MC_FUNCTION void attention_rows(MC_CONSTANT AttentionArguments& arguments, MC_GROUP char* memory,
                                Thread self) {
  constexpr int kWidth = kLanes * kChunks * 8;
  constexpr int kTeams = kAttentionRowThreads / kLanes;
  constexpr int kWarps = kAttentionRowThreads / 32;
  constexpr int kBatch = 4 / kChunks;  // Keys that a team takes at once.
  constexpr int kKeys = kTeams * kBatch;
  MC_CONSTANT AttentionProblem& p = arguments.problem;
  const int32_t tiles = (p.heads / p.key_heads * p.queries + kRows - 1) / kRows;
  const int32_t part = int32_t(self.group % arguments.splits);
  const int32_t tile = int32_t(self.group / arguments.splits) % tiles;
  const AttentionShare share = attention_share(p, int32_t(self.group / arguments.splits) / tiles);
  const int32_t first = tile * kRows;
  const int32_t rows = share.rows - first < kRows ? share.rows - first : kRows;
  KeyRange range = keys_of_tile(p, share, first, rows);
  const KeyRange all = keys_of_all(p, share.length, queries_of_rows(p, first, first + rows - 1));
  if (arguments.splits > 1) {
    const KeyParts parts = key_parts(arguments, range);
    if (part >= parts.active) return;
    range.begin += part * parts.length;
    if (range.end > range.begin + parts.length) range.end = range.begin + parts.length;
  }

  // The queries, scaled so that scores are powers of 2.
  MC_GROUP float* const queries = reinterpret_cast<MC_GROUP float*>(memory);
  const HeadRows<T> q = query_rows<T>(p, share, p.q, p.q_strides, p.width);
  for (int32_t i = int32_t(self.index) * 8; i < rows * kWidth; i += int32_t(self.size) * 8) {
    const Chunk chunk = load_chunk(q.row(first + i / kWidth), i % kWidth, p.width, q.aligned);
    for (int j = 0; j < 8; ++j) queries[i + j] = chunk.at[j] * (p.scale * MC_LOG2_E);
  }
  group_barrier();

  // What the mask adds, [rows, kKeys]; and after the loop, what warps give each other.
  MC_GROUP float* const joined = queries + kRows * kWidth;
  const int32_t team = int32_t(self.index) / kLanes;
  const int32_t column = int32_t(self.index) % kLanes * 8;  // And every kLanes * 8 from there.
  const HeadRows<T> k = key_rows<T>(p, share);
  const HeadRows<T> v = value_rows<T>(p, share);
  float top[kRows];
  float sum[kRows];
  Chunk values[kRows][kChunks];
  MC_UNROLL
  for (int r = 0; r < kRows; ++r) {
    top[r] = -INFINITY;
    sum[r] = 0.0f;
    MC_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      MC_UNROLL
      for (int i = 0; i < 8; ++i) values[r][c].at[i] = 0.0f;
    }
  }
  for (int32_t start = range.begin; start < range.end; start += kKeys) {
    // Teams take neighbouring keys, so that a warp reads them in one piece.
    const int32_t key = start + team;
    Chunk key_chunk[kBatch][kChunks];
    Chunk value_chunk[kBatch][kChunks];
    MC_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      const int32_t number = key + b * kTeams;
      const bool exists = number < range.end;
      MC_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        const int32_t at = column + c * kLanes * 8;
        key_chunk[b][c] =
            load_chunk(k.data + number * k.stride, at, exists ? p.width : 0, k.aligned);
        value_chunk[b][c] =
            load_chunk(v.data + number * v.stride, at, exists ? p.value_width : 0, v.aligned);
      }
    }
    const bool whole = p.mask == nullptr && start >= all.begin &&
                       start + kKeys <= (all.end < range.end ? all.end : range.end);
    if (!whole) {
      group_barrier();
      for (int32_t i = int32_t(self.index); i < rows * kKeys; i += kAttentionRowThreads) {
        const int32_t number = start + i % kKeys;
        joined[i] = number < range.end ? masked_score(p, share, first + i / kKeys, number, 0.0f)
                                       : -INFINITY;
      }
      group_barrier();
    }
    MC_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) break;
      float score[kBatch];
      MC_UNROLL
      for (int b = 0; b < kBatch; ++b) score[b] = 0.0f;
      MC_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        const MC_GROUP Packet<float, 4>* const query =
            reinterpret_cast<const MC_GROUP Packet<float, 4>*>(queries + r * kWidth + column +
                                                               c * kLanes * 8);
        const Packet<float, 4> low = query[0];
        const Packet<float, 4> high = query[1];
        MC_UNROLL
        for (int b = 0; b < kBatch; ++b) {
          MC_UNROLL
          for (int i = 0; i < 4; ++i) {
            score[b] = fmaf(low.values[i], key_chunk[b][c].at[i], score[b]);
            score[b] = fmaf(high.values[i], key_chunk[b][c].at[i + 4], score[b]);
          }
        }
      }
      float new_top = top[r];
      MC_UNROLL
      for (int b = 0; b < kBatch; ++b) {
        MC_UNROLL
        for (uint32_t mask = kLanes / 2; mask > 0; mask >>= 1) {
          score[b] += lane_shuffle_xor(score[b], mask);
        }
        if (!whole) {
          const float added = joined[r * kKeys + b * kTeams + team];
          score[b] = added == -INFINITY ? added : score[b] + added;
        }
        new_top = fmaxf(new_top, score[b]);
      }
      const float correction = shrink(top[r], new_top);
      top[r] = new_top;
      sum[r] *= correction;
      MC_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        MC_UNROLL
        for (int i = 0; i < 8; ++i) values[r][c].at[i] *= correction;
      }
      MC_UNROLL
      for (int b = 0; b < kBatch; ++b) {
        const float weight = shrink(score[b], new_top);
        sum[r] += weight;
        MC_UNROLL
        for (int c = 0; c < kChunks; ++c) {
          MC_UNROLL
          for (int i = 0; i < 8; ++i) {
            values[r][c].at[i] = fmaf(weight, value_chunk[b][c].at[i], values[r][c].at[i]);
          }
        }
      }
    }
  }

  // The teams of a warp, then the warps.
  constexpr int kPartWidth = kWidth + 2;
  group_barrier();
  MC_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) break;
    MC_UNROLL
    for (uint32_t mask = kLanes; mask < 32; mask <<= 1) {
      const float other = lane_shuffle_xor(top[r], mask);
      const float new_top = fmaxf(top[r], other);
      const float mine = shrink(top[r], new_top);
      top[r] = new_top;
      sum[r] *= mine;
      sum[r] += lane_shuffle_xor(sum[r], mask);
      MC_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        MC_UNROLL
        for (int i = 0; i < 8; ++i) {
          values[r][c].at[i] *= mine;
          values[r][c].at[i] += lane_shuffle_xor(values[r][c].at[i], mask);
        }
      }
    }
    MC_GROUP float* const to = joined + (int32_t(self.warp) * kRows + r) * kPartWidth;
    if (self.lane < kLanes) {
      MC_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        MC_UNROLL
        for (int i = 0; i < 8; ++i) to[column + c * kLanes * 8 + i] = values[r][c].at[i];
      }
    }
    if (self.lane == 0) {
      to[kWidth] = top[r];
      to[kWidth + 1] = sum[r];
    }
  }
  group_barrier();
  for (int32_t r = int32_t(self.warp); r < rows; r += kWarps) {
    const MC_GROUP float* const from = joined + r * kPartWidth;
    float row_top = -INFINITY;
    for (int w = 0; w < kWarps; ++w) {
      row_top = fmaxf(row_top, from[w * kRows * kPartWidth + kWidth]);
    }
    float weight[kWarps];
    float row_sum = 0.0f;
    MC_UNROLL
    for (int w = 0; w < kWarps; ++w) {
      weight[w] = shrink(from[w * kRows * kPartWidth + kWidth], row_top);
      row_sum += weight[w] * from[w * kRows * kPartWidth + kWidth + 1];
    }
    const int64_t row = share.first_row + first + r;
    MC_GLOBAL float* const to = static_cast<MC_GLOBAL float*>(arguments.parts) +
                                (row * arguments.splits + part) * (p.value_width + 2);
    const int64_t place = row_place(p, share, arguments.out_strides, first + r);
    const float scale = row_sum == 0.0f ? 0.0f : 1.0f / row_sum;
    for (int32_t i = int32_t(self.lane); i < p.value_width; i += 32) {
      float value = 0.0f;
      MC_UNROLL
      for (int w = 0; w < kWarps; ++w) value += weight[w] * from[w * kRows * kPartWidth + i];
      if (arguments.splits > 1) {
        to[i] = value;
      } else if (arguments.out != nullptr) {
        static_cast<MC_GLOBAL T*>(arguments.out)[place + i] = T(value * scale);
      }
    }
    if (self.lane != 0) continue;
    if (arguments.splits > 1) {
      to[p.value_width] = row_top;
      to[p.value_width + 1] = row_sum;
    } else {
      write_logsumexp(arguments.logsumexp, row, row_top, row_sum);
    }
  }
}

// Joins the parts of a row, one row a group.
constexpr MC_CONSTANT int kAttentionJoinThreads = 256;

template <typename T>
MC_FUNCTION void attention_join(MC_CONSTANT AttentionArguments& arguments, MC_GROUP char* memory,
                                Thread self) {
  constexpr int kWarps = kAttentionJoinThreads / 32;
  MC_CONSTANT AttentionProblem& p = arguments.problem;
  const int32_t rows = p.heads / p.key_heads * p.queries;
  const AttentionShare share = attention_share(p, int32_t(self.group) / rows);
  const int32_t first = int32_t(self.group) % rows / arguments.tile_rows * arguments.tile_rows;
  const int32_t tile_rows = rows - first < arguments.tile_rows ? rows - first : arguments.tile_rows;
  const int32_t parts = key_parts(arguments, keys_of_tile(p, share, first, tile_rows)).active;
  const int32_t width = p.value_width + 2;
  const MC_GLOBAL float* const from = static_cast<const MC_GLOBAL float*>(arguments.parts) +
                                      int64_t{self.group} * arguments.splits * width;
  const int32_t lane = int32_t(self.lane);
  float top = -INFINITY;
  for (int32_t i = lane; i < parts; i += 32) {
    top = fmaxf(top, from[i * width + p.value_width]);
  }
  top = lane_max(top);
  float sum = 0.0f;
  for (int32_t i = lane; i < parts; i += 32) {
    sum += shrink(from[i * width + p.value_width], top) * from[i * width + p.value_width + 1];
  }
  sum = lane_sum(sum);
  if (self.index == 0) write_logsumexp(arguments.logsumexp, self.group, top, sum);
  if (arguments.out == nullptr) return;
  MC_GROUP float* const sums = reinterpret_cast<MC_GROUP float*>(memory);
  for (int32_t i = lane; i < p.value_width; i += 32) {
    float value = 0.0f;
    for (int32_t j = int32_t(self.warp); j < parts; j += kWarps) {
      value += shrink(from[j * width + p.value_width], top) * from[j * width + i];
    }
    sums[int32_t(self.warp) * p.value_width + i] = value;
  }
  group_barrier();
  MC_GLOBAL T* const out = static_cast<MC_GLOBAL T*>(arguments.out) +
                           row_place(p, share, arguments.out_strides, int32_t(self.group) % rows);
  const float scale = sum == 0.0f ? 0.0f : 1.0f / sum;
  for (int32_t i = int32_t(self.index); i < p.value_width; i += kAttentionJoinThreads) {
    float value = 0.0f;
    for (int w = 0; w < kWarps; ++w) value += sums[w * p.value_width + i];
    out[i] = T(value * scale);
  }
}

// Widths up to 64, 128, 256 and 512. The last argument is the rows of a group.
#define MC_ATTENTION_ROWS(T, type, width, lanes, chunks, rows)                         \
  MC_KERNEL(attention_rows_##width##_##type, AttentionArguments, kAttentionRowThreads, \
            (4 * (rows) * (width) + 16 * (rows) * ((width) + 2)),                      \
            attention_rows<T, lanes, chunks, rows>);
#define MC_ATTENTION_ROWS_OF(T, type)                                                     \
  MC_ATTENTION_ROWS(T, type, 64, 8, 1, 8)                                                 \
  MC_ATTENTION_ROWS(T, type, 128, 16, 1, 8)                                               \
  MC_ATTENTION_ROWS(T, type, 256, 32, 1, 4)                                               \
  MC_ATTENTION_ROWS(T, type, 512, 32, 2, 2)                                               \
  MC_KERNEL(attention_join_##type, AttentionArguments, kAttentionJoinThreads, (16 << 10), \
            attention_join<T>);
MC_ATTENTION_ROWS_OF(float, f32)
MC_ATTENTION_ROWS_OF(half, f16)
MC_ATTENTION_ROWS_OF(bfloat, bf16)
#undef MC_ATTENTION_ROWS
#undef MC_ATTENTION_ROWS_OF
