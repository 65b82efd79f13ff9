// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A step of decoding over a cache that is not long, as one kernel: the query and the newest key are
// rotated, that key and its value are put in the caches, and the query attends. In the dialect of
// dialect.h.
//
// A group has one query head: number x of the key head y of the batch z. A team of lanes takes one
// row of the caches at a time, 8 elements a lane, and keeps a softmax of its own. A kernel that
// runs for microseconds mostly waits, so the first rows are on their way before anything is known:
// which of them count is asked when they are there. All groups of a key head rotate the newest key,
// and one of them writes; so what others read at its place in the cache may be the old row or the
// new one, and is not used.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/attention_rows.h"
#include "metal_candle/backend/gpu/kernels/rope.h"

constexpr MC_CONSTANT int kCachedAttentionThreads = 256;
constexpr MC_CONSTANT int kCachedRows = 4;  // Of keys, and of values, that a team reads at once.

// Eight elements as they lie in memory, so that nothing waits for them before they are used.
template <typename T>
struct EightOf {
  Packet<uint32_t, 4> packed;
  MC_FUNCTION float get(int i) const { return tile_element<T>(packed.values[i / 2], i % 2); }
};
template <>
struct EightOf<float> {
  Packet<float, 4> halves[2];
  MC_FUNCTION float get(int i) const { return halves[i / 4].values[i % 4]; }
};

template <bool kAligned, typename T>
MC_FUNCTION EightOf<T> load_eight(const MC_GLOBAL T* from) {
  EightOf<T> eight;
  if (kAligned) {
    eight.packed = load_packet<uint32_t, 4>(reinterpret_cast<const MC_GLOBAL uint32_t*>(from));
    return eight;
  }
  const MC_GLOBAL uint16_t* const bits = reinterpret_cast<const MC_GLOBAL uint16_t*>(from);
  MC_UNROLL
  for (int i = 0; i < 4; ++i) {
    eight.packed.values[i] = uint32_t(bits[2 * i]) | uint32_t(bits[2 * i + 1]) << 16;
  }
  return eight;
}
template <bool kAligned>
MC_FUNCTION EightOf<float> load_eight(const MC_GLOBAL float* from) {
  EightOf<float> eight;
  eight.halves[0] = load_packet<4, kAligned>(from);
  eight.halves[1] = load_packet<4, kAligned>(from + 4);
  return eight;
}

// The rows that a team takes at once: kCachedRows of them, which are as far apart as there are
// teams. For what lies beyond the last row, that again.
template <typename T, int kLanes, bool kAligned>
MC_FUNCTION void load_rows(MC_THREAD EightOf<T>* to, const MC_GLOBAL T* rows, int32_t first,
                           int32_t count) {
  MC_UNROLL
  for (int b = 0; b < kCachedRows; ++b) {
    const int32_t i = first + b * (kCachedAttentionThreads / kLanes);
    to[b] = load_eight<kAligned>(rows + int64_t(i < count ? i : count - 1) * (kLanes * 8));
  }
}

// Sums over the lanes of a team, for each of them.
template <int kLanes>
MC_FUNCTION float team_sum(float x) {
  MC_UNROLL
  for (uint32_t mask = kLanes / 2; mask > 0; mask >>= 1) x += lane_shuffle_xor(x, mask);
  return x;
}

MC_FUNCTION int32_t clamped(int32_t x, int32_t most) { return x < 0 ? 0 : x < most ? x : most; }

template <typename T, int kLanes, bool kAligned>
MC_FUNCTION void cached_attention(MC_CONSTANT CachedAttentionArguments& a, MC_GROUP char* memory,
                                  Thread self) {
  constexpr int32_t kTeams = kCachedAttentionThreads / kLanes;
  constexpr int32_t kStep = kTeams * kCachedRows;
  constexpr int32_t kWarps = kCachedAttentionThreads / 32;
  constexpr int32_t kWidth = kLanes * 8;
  const int32_t share = int32_t(self.group_z * self.groups_y + self.group_y);
  const int32_t head = share * int32_t(self.groups) + int32_t(self.group);
  const int32_t team = int32_t(self.index) / kLanes;
  const int32_t column = int32_t(self.index) % kLanes * 8;
  const int64_t cache = int64_t(share) * a.capacity * kWidth;
  const MC_GLOBAL T* const keys = static_cast<const MC_GLOBAL T*>(a.keys) + cache + column;
  const MC_GLOBAL T* const values = static_cast<const MC_GLOBAL T*>(a.values) + cache + column;

  // What is small comes first, so that it need not wait for the rest. Two threads have each
  // element of the query and of the newest key; those that are left do as they do.
  const int32_t i = int32_t(self.index) % kWidth;
  const bool is_key = int32_t(self.index) / kWidth % 2 == 1;
  const int32_t half_dims = a.dims / 2;
  const bool turns = i < a.dims, second = i >= half_dims;
  const int32_t pair = !turns ? 0 : second ? i - half_dims : i;
  const MC_GLOBAL T* const row = is_key ? static_cast<const MC_GLOBAL T*>(a.k) + share * kWidth
                                        : static_cast<const MC_GLOBAL T*>(a.q) + head * kWidth;
  const T x = row[i], other = row[second ? pair : pair + half_dims];
  const T new_value = static_cast<const MC_GLOBAL T*>(a.v)[share * kWidth + i];
  const float frequency = a.frequencies[pair];
  const int32_t offset = *a.offset;
  const int32_t place = clamped(offset, a.capacity - 1);
  const int32_t count = clamped(a.key_length[int32_t(self.group_z) * a.length_stride], a.capacity);
  EightOf<T> key[kCachedRows], value[kCachedRows];
  load_rows<T, kLanes, kAligned>(key, keys, team, a.capacity);
  load_rows<T, kLanes, kAligned>(value, values, team, a.capacity);

  // Rotated as rope.h does it; the query scaled so that scores are powers of 2.
  MC_GROUP float* const query = reinterpret_cast<MC_GROUP float*>(memory);
  const Turn turn = turn_by(float(offset) * a.rope_scale * frequency);
  float y = float(x);
  if (turns) y = fmaf(second ? float(other) : -float(other), turn.sine, y * turn.cosine);
  if (int32_t(self.index) < 2 * kWidth) {
    const T rotated = T(y);
    query[self.index] = float(rotated) * (is_key ? 1.0f : a.scale * MC_LOG2_E);
    if (!is_key) query[2 * kWidth + i] = float(new_value);
    MC_GLOBAL T* const to = static_cast<MC_GLOBAL T*>(is_key ? a.new_keys : a.new_values);
    if (self.group == 0 && to != nullptr) {
      to[cache + place * kWidth + i] = is_key ? rotated : new_value;
    }
  }
  group_barrier();

  float q[8];
  float score = 0.0f;
  MC_UNROLL
  for (int j = 0; j < 8; ++j) {
    q[j] = query[column + j];
    score = fmaf(q[j], query[kWidth + column + j], score);
  }
  score = team_sum<kLanes>(score);
  // The first team begins with the newest key.
  const bool begins = team == 0 && place < count;
  float top = begins ? score : -INFINITY;
  float sum = begins ? 1.0f : 0.0f;
  float total[8];
  MC_UNROLL
  for (int j = 0; j < 8; ++j) total[j] = begins ? query[2 * kWidth + column + j] : 0.0f;
  // All teams of a warp go round as often, since they exchange parts of scores.
  int32_t first = team;
  bool more;
  MC_UNROLL_BY(1)
  do {
    more = first - team + kStep < count;
    float scores[kCachedRows];
    float new_top = top;
    MC_UNROLL
    for (int b = 0; b < kCachedRows; ++b) {
      score = 0.0f;
      MC_UNROLL
      for (int j = 0; j < 8; ++j) score = fmaf(q[j], key[b].get(j), score);
      score = team_sum<kLanes>(score);
      const int32_t r = first + b * kTeams;
      scores[b] = r < count && r != place ? score : -INFINITY;
      new_top = fmaxf(new_top, scores[b]);
    }
    if (more) load_rows<T, kLanes, kAligned>(key, keys, first + kStep, count);
    const float correction = shrink(top, new_top);
    top = new_top;
    sum *= correction;
    MC_UNROLL
    for (int j = 0; j < 8; ++j) total[j] *= correction;
    MC_UNROLL
    for (int b = 0; b < kCachedRows; ++b) {
      const float weight = shrink(scores[b], top);
      sum += weight;
      // Rows that do not exist may hold anything.
      if (weight == 0.0f) continue;
      MC_UNROLL
      for (int j = 0; j < 8; ++j) total[j] = fmaf(weight, value[b].get(j), total[j]);
    }
    first += kStep;
    if (more) load_rows<T, kLanes, kAligned>(value, values, first, count);
  } while (more);

  // The teams of a warp, then the warps.
  float warp_top = top;
  MC_UNROLL
  for (uint32_t mask = kLanes; mask < 32; mask <<= 1) {
    warp_top = fmaxf(warp_top, lane_shuffle_xor(warp_top, mask));
  }
  const float share_of_team = shrink(top, warp_top);
  sum *= share_of_team;
  MC_UNROLL
  for (int j = 0; j < 8; ++j) total[j] *= share_of_team;
  MC_UNROLL
  for (uint32_t mask = kLanes; mask < 32; mask <<= 1) {
    sum += lane_shuffle_xor(sum, mask);
    MC_UNROLL
    for (int j = 0; j < 8; ++j) total[j] += lane_shuffle_xor(total[j], mask);
  }
  MC_GROUP float* const joined = query + 3 * kWidth;
  MC_GROUP float* const tops = joined + kWarps * kWidth;
  MC_GROUP float* const sums = tops + kWarps;
  if (int32_t(self.lane) < kLanes) {
    MC_UNROLL
    for (int j = 0; j < 8; ++j) joined[int32_t(self.warp) * kWidth + column + j] = total[j];
  }
  if (self.lane == 0) {
    tops[self.warp] = warp_top;
    sums[self.warp] = sum;
  }
  group_barrier();
  if (int32_t(self.index) >= kWidth || a.out == nullptr) return;
  top = -INFINITY;
  MC_UNROLL
  for (int w = 0; w < kWarps; ++w) top = fmaxf(top, tops[w]);
  y = 0.0f;
  sum = 0.0f;
  MC_UNROLL
  for (int w = 0; w < kWarps; ++w) {
    const float weight = shrink(tops[w], top);
    sum = fmaf(weight, sums[w], sum);
    y = fmaf(weight, joined[w * kWidth + int32_t(self.index)], y);
  }
  static_cast<MC_GLOBAL T*>(a.out)[head * kWidth + int32_t(self.index)] =
      T(sum == 0.0f ? 0.0f : y / sum);
}

// Widths of 64 and 128.
#define MC_CACHED_ATTENTION(T, type, width, suffix, aligned)                     \
  MC_KERNEL(cached_attention_##width##_##type##suffix, CachedAttentionArguments, \
            kCachedAttentionThreads,                                             \
            ((width)*3 + kCachedAttentionThreads / 32 * ((width) + 2)) * 4,      \
            cached_attention<T, (width) / 8, aligned>);
#define MC_CACHED_ATTENTION_OF(T, type)               \
  MC_CACHED_ATTENTION(T, type, 64, , true)            \
  MC_CACHED_ATTENTION(T, type, 64, _unaligned, false) \
  MC_CACHED_ATTENTION(T, type, 128, , true)           \
  MC_CACHED_ATTENTION(T, type, 128, _unaligned, false)
MC_CACHED_ATTENTION_OF(float, f32)
MC_CACHED_ATTENTION_OF(half, f16)
MC_CACHED_ATTENTION_OF(bfloat, bf16)
#undef MC_CACHED_ATTENTION
#undef MC_CACHED_ATTENTION_OF
