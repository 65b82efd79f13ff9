// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Attention of one query a head, without a mask, over a cache that is not long: a step of decoding,
// as one kernel. In the dialect of dialect.h.
//
// A group has one row. A team of lanes reads one key at a time, 8 elements a lane; all scores are
// kept, so that there is one softmax; then teams add up the values. The first values are on their
// way while the scores are made. Rows begin at multiples of 16 bytes and have kLanes * 8 elements:
// a kernel that runs for microseconds should be short, so other widths are left to
// attention_rows.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_rows.h"

constexpr MC_CONSTANT int kAttentionOneThreads = 256;
constexpr MC_CONSTANT int kAttentionOneKeys = 1024;

// Eight elements at 16 bytes, or zeros.
template <typename T>
MC_FUNCTION Chunk load_aligned_chunk(const MC_GLOBAL T* from, bool exists) {
  constexpr int kTogether = 16 / sizeof(T);
  Chunk chunk = {{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
  if (!exists) return chunk;
  MC_UNROLL
  for (int i = 0; i < 8; i += kTogether) {
    const Packet<T, kTogether> packet = load_packet<T, kTogether>(from + i);
    MC_UNROLL
    for (int j = 0; j < kTogether; ++j) chunk.at[i + j] = float(packet.values[j]);
  }
  return chunk;
}

template <typename T, int kLanes>
MC_FUNCTION void attention_one(MC_CONSTANT AttentionArguments& arguments, MC_GROUP char* memory,
                               Thread self) {
  constexpr int32_t kTeams = kAttentionOneThreads / kLanes;
  constexpr int32_t kBatch = 4;  // Keys that a team reads at once.
  constexpr int32_t kWarps = kAttentionOneThreads / 32;
  constexpr int32_t kWidth = kLanes * 8;
  MC_CONSTANT AttentionProblem& p = arguments.problem;
  const int32_t heads = p.heads / p.key_heads;
  const AttentionShare share = attention_share(p, int32_t(self.group) / heads);
  const int32_t head = int32_t(self.group) % heads;
  const KeyRange range = keys_of_query(p, share.length, 0);
  const int32_t count = range.end - range.begin;
  const int32_t team = int32_t(self.index) / kLanes;
  const int32_t column = int32_t(self.index) % kLanes * 8;
  const HeadRows<T> q = query_rows<T>(p, share, p.q, p.q_strides, p.width);
  const HeadRows<T> k = key_rows<T>(p, share);
  const HeadRows<T> v = value_rows<T>(p, share);
  const MC_GLOBAL T* const keys = k.data + range.begin * k.stride;
  const MC_GLOBAL T* const values = v.data + range.begin * v.stride;
  MC_GROUP float* const scores = reinterpret_cast<MC_GROUP float*>(memory);
  MC_GROUP float* const joined = scores + kAttentionOneKeys;  // [kWarps, kWidth], and before that
                                                              // what groups join by.
  const Chunk query = load_aligned_chunk(q.row(head) + column, true);
  Chunk value[kBatch];
  MC_UNROLL
  for (int32_t b = 0; b < kBatch; ++b) {
    const int32_t i = team + b * kTeams;
    value[b] = load_aligned_chunk(values + i * v.stride + column, i < count);
  }
  float top = -INFINITY;
  // All teams of a warp go round as often, since they exchange parts of scores.
  for (int32_t start = 0; start < count; start += kTeams * kBatch) {
    Chunk key[kBatch];
    MC_UNROLL
    for (int32_t b = 0; b < kBatch; ++b) {
      const int32_t i = start + team + b * kTeams;
      key[b] = load_aligned_chunk(keys + i * k.stride + column, i < count);
    }
    MC_UNROLL
    for (int32_t b = 0; b < kBatch; ++b) {
      float score = 0.0f;
      MC_UNROLL
      for (int32_t j = 0; j < 8; ++j) score = fmaf(query.at[j], key[b].at[j], score);
      MC_UNROLL
      for (uint32_t mask = kLanes / 2; mask > 0; mask >>= 1) score += lane_shuffle_xor(score, mask);
      score *= p.scale * MC_LOG2_E;
      const int32_t i = start + team + b * kTeams;
      if (i >= count) continue;
      top = fmaxf(top, score);
      if (column == 0) scores[i] = score;
    }
  }
  top = group_max(top, joined, self);  // And all scores are there.
  float sum = 0.0f;
  for (int32_t i = int32_t(self.index); i < count; i += kAttentionOneThreads) {
    const float weight = shrink(scores[i], top);
    scores[i] = weight;
    sum += weight;
  }
  group_barrier();
  sum = group_sum(sum, joined, self);
  Chunk total = {{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
  for (int32_t start = team; start < count; start += kTeams * kBatch) {
    MC_UNROLL
    for (int32_t b = 0; b < kBatch; ++b) {
      const int32_t i = start + b * kTeams;
      if (i >= count) break;
      const float weight = scores[i];
      MC_UNROLL
      for (int32_t j = 0; j < 8; ++j) total.at[j] = fmaf(weight, value[b].at[j], total.at[j]);
    }
    MC_UNROLL
    for (int32_t b = 0; b < kBatch; ++b) {
      const int32_t i = start + (kBatch + b) * kTeams;
      if (i >= count) break;
      value[b] = load_aligned_chunk(values + i * v.stride + column, true);
    }
  }
  MC_UNROLL
  for (uint32_t mask = kLanes; mask < 32; mask <<= 1) {
    MC_UNROLL
    for (int32_t j = 0; j < 8; ++j) total.at[j] += lane_shuffle_xor(total.at[j], mask);
  }
  group_barrier();
  if (int32_t(self.lane) < kLanes) {
    MC_UNROLL
    for (int32_t j = 0; j < 8; ++j) joined[int32_t(self.warp) * kWidth + column + j] = total.at[j];
  }
  group_barrier();
  const int64_t row = share.first_row + head;
  if (self.index == 0) write_logsumexp(arguments.logsumexp, row, top, sum);
  if (arguments.out == nullptr) return;
  MC_GLOBAL T* const out =
      static_cast<MC_GLOBAL T*>(arguments.out) + row_place(p, share, arguments.out_strides, head);
  const float scale = sum == 0.0f ? 0.0f : 1.0f / sum;
  for (int32_t i = int32_t(self.index); i < kWidth; i += kAttentionOneThreads) {
    float y = 0.0f;
    MC_UNROLL
    for (int32_t w = 0; w < kWarps; ++w) y += joined[w * kWidth + i];
    out[i] = T(y * scale);
  }
}

// Widths of 64 and 128.
#define MC_ATTENTION_ONE(T, type)                                                             \
  MC_KERNEL(attention_one_64_##type, AttentionArguments, kAttentionOneThreads,                \
            kAttentionOneKeys * 4 + kAttentionOneThreads / 32 * 64 * 4, attention_one<T, 8>); \
  MC_KERNEL(attention_one_128_##type, AttentionArguments, kAttentionOneThreads,               \
            kAttentionOneKeys * 4 + kAttentionOneThreads / 32 * 128 * 4, attention_one<T, 16>);
MC_ATTENTION_ONE(float, f32)
MC_ATTENTION_ONE(half, f16)
MC_ATTENTION_ONE(bfloat, bf16)
#undef MC_ATTENTION_ONE
