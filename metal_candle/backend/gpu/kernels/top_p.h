// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The threshold of nucleus sampling without sorting. Numbers fall into cells an eighth wide, whose
// weights are added up (top_p_weigh). From those of all chunks follows the cell in which the
// threshold lies, and its elements are gathered (top_p_gather), which are few; among them it is
// found by its key, ten bits at a time (top_p_find). Sums are of integers, or in one order, so the
// result is the same every time. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/keys.h"
#include "metal_candle/backend/gpu/kernels/scan.h"

// ---- Cells. Numbers from -2^20 to 2^20 have cells of an eighth; of greater ones each has its own.
constexpr MC_CONSTANT float kFarNumber = 1048576.0f;
constexpr MC_CONSTANT uint32_t kFarBits = 0x49800000u;  // Of that number.
constexpr MC_CONSTANT int32_t kFarCell = 1 << 23;       // And its cell.

// Ascending.
MC_FUNCTION int32_t cell_of(float x) {
  const float magnitude = fabsf(x);
  if (magnitude < kFarNumber) return int32_t(floorf(x * 8.0f));
  const int32_t cell = kFarCell + int32_t(as_uint(magnitude) - kFarBits);
  return x < 0.0f ? -cell - 1 : cell;
}
// No number of the cell is greater, and none is more than an eighth below.
MC_FUNCTION float cell_edge(int32_t cell) {
  if (cell >= kFarCell) return as_float(uint32_t(cell - kFarCell) + kFarBits);
  if (cell < -kFarCell) return -as_float(uint32_t(-1 - cell - kFarCell) + kFarBits);
  return float(cell + 1) * 0.125f;
}

// ---- Weights. exp(x - bound) for x at most an eighth below the bound is a number of 24 bits after
// the point, so sums of them as integers are exact, whatever the order.
MC_FUNCTION uint32_t near_weight(float x, float bound) {
  return uint32_t(expf(fminf(x - bound, 0.0f)) * 16777216.0f);
}

// Sums of 64 bits in the memory of a group, `count` of them.
struct WeightSums {
  MC_GROUP uint32_t* low;
  MC_GROUP uint32_t* high;

  MC_FUNCTION WeightSums(MC_GROUP char* memory, uint32_t count)
      : low(reinterpret_cast<MC_GROUP uint32_t*>(memory)), high(low + count) {}
  MC_FUNCTION void clear(uint32_t count, Thread self) const {
    for (uint32_t i = self.index; i < count; i += self.size) low[i] = high[i] = 0;
  }
  MC_FUNCTION void add(uint32_t at, uint32_t weight) const {
    const uint32_t old = atomic_add(low + at, weight);
    if (old + weight < old) atomic_add(high + at, 1u);
  }
  MC_FUNCTION int64_t get(uint32_t at) const { return int64_t(uint64_t(high[at]) << 32 | low[at]); }
};

// The columns of a row that a group works on.
struct TopPChunk {
  uint32_t row, number, begin, end;

  MC_FUNCTION TopPChunk(MC_CONSTANT TopPArguments& arguments, Thread self) {
    row = self.group / arguments.chunks;
    number = self.group - row * arguments.chunks;
    begin = number * arguments.chunk;
    const uint32_t left = arguments.n - begin;
    end = begin + (left < arguments.chunk ? left : arguments.chunk);
  }
};

// Elements first, first + step, ... before `end`, loaded at once; -infinity, which has no weight,
// for those that are not there.
enum { kTopPInFlight = 8 };
template <typename T>
MC_FUNCTION void load_values(const MC_GLOBAL T* x, uint32_t first, uint32_t end, uint32_t step,
                             MC_THREAD float* values) {
  MC_UNROLL
  for (int i = 0; i < kTopPInFlight; ++i) {
    const uint32_t at = first + i * step;
    values[i] = at < end ? float(x[at]) : -INFINITY;
  }
}

typedef Reducer<kReduceMax, float> LargestOf;  // NaN if one is.
typedef Reducer<kReduceMax, uint32_t> LastOf;
typedef Reducer<kReduceMin, uint32_t> FirstOf;

MC_FUNCTION bool is_finite(float x) { return fabsf(x) < INFINITY; }

// The weight of each cell, of those from the largest number's down: beside exp(cell_edge()).
template <typename T>
MC_FUNCTION void top_p_weigh(MC_CONSTANT TopPArguments& arguments, MC_GROUP char* memory,
                             Thread self) {
  const TopPChunk chunk(arguments, self);
  const MC_GLOBAL T* const x =
      static_cast<const MC_GLOBAL T*>(arguments.x) + int64_t(chunk.row) * arguments.n;
  const WeightSums sums(memory + 128, kTopPCells);
  sums.clear(kTopPCells, self);
  float largest = -INFINITY;
  const uint32_t stride = kTopPInFlight * self.size;
  float values[kTopPInFlight];
  for (uint32_t i = chunk.begin + self.index; i < chunk.end; i += stride) {
    load_values(x, i, chunk.end, self.size, values);
    MC_UNROLL
    for (int k = 0; k < kTopPInFlight; ++k) largest = LargestOf::join(largest, values[k]);
  }
  largest = group_reduce<LargestOf>(largest, memory, self);
  group_barrier();
  if (self.index == 0) {
    arguments.largest[self.group] = largest;
    if (chunk.number == 0) arguments.candidate_counts[chunk.row] = 0;
  }
  if (!is_finite(largest)) return;
  const int32_t top = cell_of(largest);
  for (uint32_t i = chunk.begin + self.index; i < chunk.end; i += stride) {
    load_values(x, i, chunk.end, self.size, values);
    MC_UNROLL
    for (int k = 0; k < kTopPInFlight; ++k) {
      const int32_t cell = cell_of(values[k]);
      const uint32_t below = uint32_t(top - cell);
      // What is 64 below the largest has no weight.
      if (below < kTopPCells && values[k] > -INFINITY) {
        sums.add(below, near_weight(values[k], cell_edge(cell)));
      }
    }
  }
  group_barrier();
  MC_GLOBAL float* const weights = arguments.weights + int64_t(self.group) * kTopPCells;
  for (uint32_t i = self.index; i < kTopPCells; i += self.size) {
    weights[i] = float(sums.get(i)) * (1.0f / 16777216.0f);
  }
}

// Every group finds the cell by itself, and then gathers from its own chunk. kTopPCells threads.
template <typename T>
MC_FUNCTION void top_p_gather(MC_CONSTANT TopPArguments& arguments, MC_GROUP char* memory,
                              Thread self) {
  MC_GROUP uint32_t* const shared = reinterpret_cast<MC_GROUP uint32_t*>(memory + 4 * 128);
  MC_GROUP uint32_t* const shifts = shared + 4;
  const TopPChunk chunk(arguments, self);
  const uint32_t chunks = arguments.chunks;
  const MC_GLOBAL float* const of_chunks = arguments.largest + int64_t(chunk.row) * chunks;
  float largest = self.index < chunks ? of_chunks[self.index] : -INFINITY;
  const float mine = largest;
  largest = group_reduce<LargestOf>(largest, memory, self);
  if (!is_finite(largest)) {
    if (self.index == 0 && chunk.number == 0) arguments.crossings[chunk.row] = {largest, 0.0f};
    return;
  }
  const int32_t top = cell_of(largest);
  if (self.index < kTopPChunks) {
    // How many cells lower that chunk's begin.
    const uint32_t lower = uint32_t(top - cell_of(mine));
    shifts[self.index] = lower < kTopPCells && is_finite(mine) ? lower : uint32_t(kTopPCells);
  }
  group_barrier();
  const MC_GLOBAL float* const weights =
      arguments.weights + int64_t(chunk.row) * chunks * kTopPCells;
  float weight = 0.0f;
  enum { in_flight = 16 };
  for (uint32_t first = 0; first < chunks; first += in_flight) {
    float values[in_flight];
    MC_UNROLL
    for (int i = 0; i < in_flight; ++i) {
      const uint32_t shift = shifts[first + i];
      values[i] =
          self.index >= shift ? weights[(first + i) * kTopPCells + self.index - shift] : 0.0f;
    }
    MC_UNROLL
    for (int i = 0; i < in_flight; ++i) weight += values[i];
  }
  // Far down there are cells of no number.
  if (weight > 0.0f) weight *= expf(cell_edge(top - int32_t(self.index)) - largest);
  const Scanned<float> scanned = group_scan<Reducer<kReduceSum, float>>(weight, memory + 128, self);
  const float target = arguments.p * scanned.total;
  // The last cell that has something, and less than the target before it.
  const bool reached = weight > 0.0f && scanned.before < target;
  const uint32_t crossing = group_reduce<LastOf>(reached ? self.index : 0u, memory + 2 * 128, self);
  if (self.index == crossing && chunk.number == 0) {
    arguments.crossings[chunk.row] = {largest, target - scanned.before};
  }
  const int32_t wanted = top - int32_t(crossing);

  const MC_GLOBAL T* const x =
      static_cast<const MC_GLOBAL T*>(arguments.x) + int64_t(chunk.row) * arguments.n;
  uint32_t count = 0;
  const uint32_t stride = kTopPInFlight * self.size;
  float values[kTopPInFlight];
  for (uint32_t i = chunk.begin + self.index; i < chunk.end; i += stride) {
    load_values(x, i, chunk.end, self.size, values);
    MC_UNROLL
    for (int k = 0; k < kTopPInFlight; ++k) {
      if (cell_of(values[k]) == wanted) ++count;
    }
  }
  const Scanned<uint32_t> counted =
      group_scan<Reducer<kReduceSum, uint32_t>>(count, memory + 3 * 128, self);
  if (counted.total == 0) return;
  if (self.index == 0) {
    shared[0] = atomic_add(arguments.candidate_counts + chunk.row, counted.total);
  }
  group_barrier();
  if (count == 0) return;
  MC_GLOBAL float* to = arguments.candidates + int64_t(chunk.row) * arguments.n + shared[0];
  to += counted.before;
  for (uint32_t i = chunk.begin + self.index; i < chunk.end; i += self.size) {
    const float value = float(x[i]);
    if (cell_of(value) == wanted) *to++ = value;
  }
}

// The number of a descending key (keys.h).
MC_FUNCTION float number_of_key(uint32_t key) {
  const uint32_t ascending = ~key;
  return as_float((ascending >> 31) != 0 ? ascending & 0x7fffffffu : ~ascending);
}

// The threshold among a row's candidates, in whatever order those are. One row a group of
// kTopPBins threads.
enum { kTopPBins = 1024 };
template <typename T>
MC_FUNCTION void top_p_find(MC_CONSTANT TopPArguments& arguments, MC_GROUP char* memory,
                            Thread self) {
  const uint32_t row = self.group;
  MC_GLOBAL T* const out = static_cast<MC_GLOBAL T*>(arguments.out);
  const TopPCrossing crossing = arguments.crossings[row];
  if (!is_finite(crossing.largest)) {
    if (self.index == 0) out[row] = T(INFINITY);
    return;
  }
  const uint32_t count = arguments.candidate_counts[row];
  const MC_GLOBAL float* const x = arguments.candidates + int64_t(row) * arguments.n;
  uint32_t first = ~uint32_t(0), last = 0;
  for (uint32_t i = self.index; i < count; i += self.size) {
    const uint32_t key = sort_key(x[i], true);
    first = FirstOf::join(first, key);
    last = LastOf::join(last, key);
  }
  first = group_reduce<FirstOf>(first, memory, self);
  last = group_reduce<LastOf>(last, memory + 128, self);
  const float bound = number_of_key(first);
  // In the integers of near_weight(). The first element has nothing before it.
  const float goal = crossing.missing / expf(bound - crossing.largest) * 16777216.0f;
  const int64_t target = int64_t(fminf(fmaxf(ceilf(goal), 1.0f), 9e18f));
  int64_t before = 0;
  MC_GROUP int64_t* const shared = reinterpret_cast<MC_GROUP int64_t*>(memory + 5 * 128);
  const WeightSums sums(memory + 6 * 128, kTopPBins);
  while (first < last) {
    uint32_t shift = 0;
    while ((last - first) >> shift >= kTopPBins) ++shift;
    group_barrier();
    sums.clear(kTopPBins, self);
    group_barrier();
    for (uint32_t i = self.index; i < count; i += self.size) {
      const uint32_t key = sort_key(x[i], true);
      if (key >= first && key <= last) sums.add((key - first) >> shift, near_weight(x[i], bound));
    }
    group_barrier();
    const int64_t weight = sums.get(self.index);
    const Scanned<int64_t> scanned =
        group_scan<Reducer<kReduceSum, int64_t>>(weight, memory + 2 * 128, self);
    const bool reached = weight > 0 && before + scanned.before < target;
    const uint32_t bin = group_reduce<LastOf>(reached ? self.index : 0u, memory + 4 * 128, self);
    if (self.index == bin) shared[0] = scanned.before;
    group_barrier();
    before += shared[0];
    first += bin << shift;
    const uint32_t end = first + ((1u << shift) - 1);
    if (end < last) last = end;
  }
  if (self.index == 0) out[row] = T(number_of_key(first));
}

#define MC_TOP_P_KERNELS(type, T)                                                  \
  MC_KERNEL(top_p_weigh_##type, TopPArguments, 512, 4224, top_p_weigh<T>);         \
  MC_KERNEL(top_p_gather_##type, TopPArguments, kTopPCells, 784, top_p_gather<T>); \
  MC_KERNEL(top_p_find_##type, TopPArguments, kTopPBins, 8960, top_p_find<T>);
MC_TOP_P_KERNELS(f32, float)
MC_TOP_P_KERNELS(f16, half)
MC_TOP_P_KERNELS(bf16, bfloat)
