// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Drawing a position of a row by the running sum of its weights, given sums of its chunks
// (softmax_chunk_sums of softmax.h). In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/scan.h"
#include "metal_candle/backend/gpu/kernels/shifted_sum.h"

// Both relative to exp(largest), which is finite.
struct ChunkWeights {
  const MC_GLOBAL ShiftedSum* chunks;
  float largest;
  MC_FUNCTION float get(uint32_t i) const {
    return chunks[i].sum * shift_factor(chunks[i].largest, largest);
  }
};
template <typename T>
struct ElementWeights {
  const MC_GLOBAL T* x;
  float largest;
  MC_FUNCTION float get(uint32_t i) const { return expf(float(x[i]) - largest); }
};

struct Drawn {
  uint32_t position;
  float before;  // The sum of weights before it.
};

// The first of `count` weights at which the running sum exceeds the target; the last that is not 0
// if rounding lets none do so. For every thread, each of which sums up neighbours. memory: 512
// bytes, which may be used again after the next barrier.
template <typename Weights>
MC_FUNCTION Drawn find_weight(Weights weights, uint32_t count, float target, MC_GROUP char* memory,
                              Thread self) {
  const uint32_t each = (count + self.size - 1) / self.size;
  const uint32_t begin = self.index * each < count ? self.index * each : count;
  const uint32_t end = begin + each < count ? begin + each : count;
  float sum = 0.0f;
  MC_UNROLL_BY(4)
  for (uint32_t i = begin; i < end; ++i) sum += weights.get(i);
  const Scanned<float> scanned = group_scan<Reducer<kReduceSum, float>>(sum, memory, self);
  const bool beyond = sum > 0.0f && scanned.before + sum > target;
  const uint32_t first = group_reduce<Reducer<kReduceMin, uint32_t>>(
      beyond ? self.index : ~uint32_t(0), memory + 128, self);
  const uint32_t last =
      group_reduce<Reducer<kReduceMax, uint32_t>>(sum > 0.0f ? self.index : 0u, memory + 256, self);
  MC_GROUP Drawn* const shared = reinterpret_cast<MC_GROUP Drawn*>(memory + 384);
  if (self.index == (first < self.size ? first : last)) {
    Drawn drawn = {begin, scanned.before};
    float before = scanned.before;
    for (uint32_t i = begin; i < end; ++i) {
      const float weight = weights.get(i);
      if (weight > 0.0f) drawn = {i, before};
      before += weight;
      if (before > target) break;
    }
    *shared = drawn;
  }
  group_barrier();
  return *shared;
}

// One row a group: first its chunk, then the position in it.
template <typename T>
MC_FUNCTION void draw(MC_CONSTANT DrawArguments& arguments, MC_GROUP char* memory, Thread self) {
  const uint32_t row = self.group;
  const ShiftedSum all = sum_of_chunks(arguments.partials, row, arguments.chunks, self);
  // Without numbers, or with none that is finite.
  if (!(all.sum > 0.0f && all.sum < INFINITY)) {
    if (self.index == 0) arguments.out[row] = -1;
    return;
  }
  const MC_GLOBAL ShiftedSum* const chunks =
      reinterpret_cast<const MC_GLOBAL ShiftedSum*>(arguments.partials) +
      int64_t(row) * arguments.chunks;
  const float target = arguments.u[row] * all.sum;
  const ChunkWeights of_chunks = {chunks, all.largest};
  const Drawn chunk = find_weight(of_chunks, arguments.chunks, target, memory, self);
  const uint32_t begin = chunk.position * arguments.chunk;
  const uint32_t left = arguments.n - begin;
  const MC_GLOBAL T* const x =
      static_cast<const MC_GLOBAL T*>(arguments.x) + int64_t(row) * arguments.n + begin;
  const ElementWeights<T> of_elements = {x, all.largest};
  const Drawn element = find_weight(of_elements, left < arguments.chunk ? left : arguments.chunk,
                                    target - chunk.before, memory + 512, self);
  if (self.index == 0) arguments.out[row] = int32_t(begin + element.position);
}
MC_KERNEL(draw_f32, DrawArguments, 1024, 1024, draw<float>);
MC_KERNEL(draw_f16, DrawArguments, 1024, 1024, draw<half>);
MC_KERNEL(draw_bf16, DrawArguments, 1024, 1024, draw<bfloat>);
