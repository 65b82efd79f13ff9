// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the kernels of attention and of its gradient share: who sees whom, masks, and rows in
// memory. In the dialect of dialect.h.
//
// The query heads that share a key head are computed together: a row is (head of the share, query),
// numbered head by head, so rows follow each other in q, in the output and in logsumexp, and in
// decoding one tile of rows holds all heads that read the same keys.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"

#define MC_LOG2_E 1.44269504f
#define MC_LN_2 0.69314718f

struct KeyRange {
  int32_t begin, end;
};

// One batch and key head.
struct AttentionShare {
  int32_t batch, key_head;
  int32_t first_head;  // The first of its query heads.
  int32_t rows;
  int32_t length;     // Keys that exist. What lies beyond them in memory may be anything.
  int64_t first_row;  // The number of its first row among those of all.
};

// number: batch * key_heads + key_head.
MC_FUNCTION AttentionShare attention_share(MC_CONSTANT AttentionProblem& p, int32_t number) {
  AttentionShare share;
  const int32_t heads = p.heads / p.key_heads;
  share.batch = number / p.key_heads;
  share.key_head = number % p.key_heads;
  share.first_head = share.key_head * heads;
  share.rows = heads * p.queries;
  share.first_row = int64_t{number} * share.rows;
  share.length = p.keys;
  if (p.key_length != nullptr) {
    const int32_t length =
        static_cast<const MC_GLOBAL int32_t*>(p.key_length)[share.batch * p.key_length_stride];
    share.length = length < 0 ? 0 : length < p.keys ? length : p.keys;
  }
  return share;
}

// The keys that a query may see by its position.
MC_FUNCTION KeyRange keys_of_query(MC_CONSTANT AttentionProblem& p, int32_t length, int32_t query) {
  if (p.causal == 0) return {0, length};
  const int32_t end = length - p.queries + query + 1;
  if (end <= 0) return {0, 0};
  return {p.window > 0 && end > p.window ? end - p.window : 0, end};
}

// The first and the last query among rows [first, last].
struct QueryRange {
  int32_t first, last;
};
MC_FUNCTION QueryRange queries_of_rows(MC_CONSTANT AttentionProblem& p, int32_t first,
                                       int32_t last) {
  if (first / p.queries != last / p.queries) return {0, p.queries - 1};
  return {first % p.queries, last % p.queries};
}
// The keys that some of the queries see, and those that all of them do.
MC_FUNCTION KeyRange keys_of_some(MC_CONSTANT AttentionProblem& p, int32_t length,
                                  QueryRange queries) {
  return {keys_of_query(p, length, queries.first).begin,
          keys_of_query(p, length, queries.last).end};
}
MC_FUNCTION KeyRange keys_of_all(MC_CONSTANT AttentionProblem& p, int32_t length,
                                 QueryRange queries) {
  return {keys_of_query(p, length, queries.last).begin,
          keys_of_query(p, length, queries.first).end};
}

// What the mask adds to a score: -infinity where the query does not see the key.
MC_FUNCTION float mask_of(MC_CONSTANT AttentionProblem& p, int32_t batch, int32_t head,
                          int32_t query, int32_t key) {
  const int64_t at = batch * p.mask_strides.batch + head * p.mask_strides.head +
                     query * p.mask_strides.row + key * p.mask_key_stride;
  switch (p.mask_type) {
    case kMaskF32:
      return static_cast<const MC_GLOBAL float*>(p.mask)[at];
    case kMaskF16:
      return float(static_cast<const MC_GLOBAL half*>(p.mask)[at]);
    case kMaskBF16:
      return float(static_cast<const MC_GLOBAL bfloat*>(p.mask)[at]);
    default:
      return static_cast<const MC_GLOBAL uint8_t*>(p.mask)[at] != 0 ? 0.0f : -INFINITY;
  }
}

// A score, in powers of 2, with all that keeps the row's query from seeing the key.
MC_FUNCTION float masked_score(MC_CONSTANT AttentionProblem& p, AttentionShare share, int32_t row,
                               int32_t key, float score) {
  if (row >= share.rows) return -INFINITY;
  const int32_t query = row % p.queries;
  const KeyRange seen = keys_of_query(p, share.length, query);
  if (key < seen.begin || key >= seen.end) return -INFINITY;
  if (p.mask == nullptr) return score;
  return score +
         MC_LOG2_E * mask_of(p, share.batch, share.first_head + row / p.queries, query, key);
}

// Rows of several heads: row r lies at data + r / head_rows * head_stride + r % head_rows * stride.
template <typename T>
struct HeadRows {
  const MC_GLOBAL T* data;
  int64_t head_stride, stride;
  int32_t head_rows, width;
  bool aligned;  // Every row to 16 bytes.

  MC_FUNCTION const MC_GLOBAL T* row(int32_t number) const {
    return data + number / head_rows * head_stride + number % head_rows * stride;
  }
};

template <typename T>
MC_FUNCTION HeadRows<T> head_rows(const MC_GLOBAL void* data, HeadStrides strides, int32_t batch,
                                  int32_t head, int32_t rows, int32_t width) {
  const uint64_t bits = reinterpret_cast<uint64_t>(data) |
                        uint64_t(strides.batch | strides.head | strides.row) * sizeof(T);
  return {static_cast<const MC_GLOBAL T*>(data) + batch * strides.batch + head * strides.head,
          strides.head,
          strides.row,
          rows,
          width,
          bits % 16 == 0};
}

// The rows of a share in q, or in another tensor of that shape.
template <typename T>
MC_FUNCTION HeadRows<T> query_rows(MC_CONSTANT AttentionProblem& p, AttentionShare share,
                                   const MC_GLOBAL void* data, HeadStrides strides, int32_t width) {
  return head_rows<T>(data, strides, share.batch, share.first_head, p.queries, width);
}
template <typename T>
MC_FUNCTION HeadRows<T> key_rows(MC_CONSTANT AttentionProblem& p, AttentionShare share) {
  return head_rows<T>(p.k, p.k_strides, share.batch, share.key_head, p.keys, p.width);
}
template <typename T>
MC_FUNCTION HeadRows<T> value_rows(MC_CONSTANT AttentionProblem& p, AttentionShare share) {
  return head_rows<T>(p.v, p.v_strides, share.batch, share.key_head, p.keys, p.value_width);
}

// Where a row of a share begins in a tensor of the shape of q but for the width.
MC_FUNCTION int64_t row_place(MC_CONSTANT AttentionProblem& p, AttentionShare share,
                              HeadStrides strides, int32_t row) {
  return share.batch * strides.batch + (share.first_head + row / p.queries) * strides.head +
         row % p.queries * strides.row;
}
// Where a share's keys begin in a tensor of the shape of k but for the width.
MC_FUNCTION int64_t keys_place(AttentionShare share, HeadStrides strides) {
  return share.batch * strides.batch + share.key_head * strides.head;
}

// Eight elements of a row.
struct Chunk {
  float at[8];
};
// Those from `column` on; beyond `width` they are 0.
template <typename T>
MC_FUNCTION Chunk load_chunk(const MC_GLOBAL T* row, int32_t column, int32_t width, bool aligned) {
  Chunk chunk;
  if (aligned && column + 8 <= width) {
    constexpr int kTogether = 16 / sizeof(T);
    MC_UNROLL
    for (int i = 0; i < 8; i += kTogether) {
      const auto packet =
          *reinterpret_cast<const MC_GLOBAL Packet<T, kTogether>*>(row + column + i);
      MC_UNROLL
      for (int j = 0; j < kTogether; ++j) chunk.at[i + j] = float(packet.values[j]);
    }
    return chunk;
  }
  MC_UNROLL
  for (int i = 0; i < 8; ++i) chunk.at[i] = column + i < width ? float(row[column + i]) : 0.0f;
  return chunk;
}
