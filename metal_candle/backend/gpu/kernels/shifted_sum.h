// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sums of exponentials in one pass, which neither overflow nor underflow. In the dialect of
// dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/common.h"

MC_FUNCTION float finite_or_zero(float x) { return x == INFINITY || x == -INFINITY ? 0.0f : x; }

// sum * exp(finite_or_zero(largest)), of elements of which the largest but for NaN is `largest`.
// With infinity among them the sum is infinite, with NaN it is NaN.
struct ShiftedSum {
  float largest;
  float sum;
};

MC_FUNCTION ShiftedSum empty_shifted_sum() { return {-INFINITY, 0.0f}; }

// What brings a sum shifted by `from` to the shift of `to`, which is no less.
MC_FUNCTION float shift_factor(float from, float to) {
  if (from == to) return 1.0f;
  return from == -INFINITY ? 0.0f : expf(finite_or_zero(from) - finite_or_zero(to));
}

MC_FUNCTION ShiftedSum combine(ShiftedSum a, ShiftedSum b) {
  const float largest = fmaxf(a.largest, b.largest);
  return {largest,
          a.sum * shift_factor(a.largest, largest) + b.sum * shift_factor(b.largest, largest)};
}

// The logarithm of the sum.
MC_FUNCTION float log(ShiftedSum s) { return finite_or_zero(s.largest) + logf(s.sum); }

// The columns [begin, end) of a row, of which a thread takes every self.size-th packet. Call
// group_combine() for the sum over the group.
template <typename T, int width>
MC_FUNCTION ShiftedSum sum_columns(const MC_GLOBAL T* row, uint32_t begin, uint32_t end,
                                   Thread self) {
  enum { in_flight = width == 8 ? 2 : 4 };
  const uint32_t step = self.size * width;
  ShiftedSum total = empty_shifted_sum();
  for (uint32_t first = begin + self.index * width; first < end; first += in_flight * step) {
    float values[in_flight * width];
    float largest = total.largest;
    MC_UNROLL
    for (int p = 0; p < in_flight; ++p) {
      const uint32_t column = first + p * step;
      if (column < end) {
        const Packet<T, width> packet = load_packet<T, width>(row + column);
        MC_UNROLL
        for (int i = 0; i < width; ++i) values[p * width + i] = float(packet.values[i]);
      } else {
        MC_UNROLL
        for (int i = 0; i < width; ++i) values[p * width + i] = -INFINITY;
      }
    }
    MC_UNROLL
    for (int i = 0; i < in_flight * width; ++i) largest = fmaxf(largest, values[i]);
    total.sum *= shift_factor(total.largest, largest);
    total.largest = largest;
    const float shift = finite_or_zero(largest);
    MC_UNROLL
    for (int i = 0; i < in_flight * width; ++i) total.sum += expf(values[i] - shift);
  }
  return total;
}

MC_FUNCTION ShiftedSum lane_combine(ShiftedSum s) {
  for (uint32_t mask = 16; mask > 0; mask >>= 1) {
    s = combine(s, {lane_shuffle_xor(s.largest, mask), lane_shuffle_xor(s.sum, mask)});
  }
  return s;
}

// For every thread. memory: 64 floats.
MC_FUNCTION ShiftedSum group_combine(ShiftedSum s, MC_GROUP char* memory, Thread self) {
  MC_GROUP ShiftedSum* const shared = reinterpret_cast<MC_GROUP ShiftedSum*>(memory);
  s = lane_combine(s);
  if (self.size == 32) return s;
  if (self.lane == 0) shared[self.warp] = s;
  group_barrier();
  s = empty_shifted_sum();
  if (self.lane < self.size / 32) s = shared[self.lane];
  return lane_combine(s);
}

// The sum of a row's chunks, for all lanes.
MC_FUNCTION ShiftedSum sum_of_chunks(const MC_GLOBAL float* partials, uint32_t row, uint32_t chunks,
                                     Thread self) {
  const MC_GLOBAL ShiftedSum* const of_row =
      reinterpret_cast<const MC_GLOBAL ShiftedSum*>(partials) + int64_t(row) * chunks;
  ShiftedSum sum = empty_shifted_sum();
  for (uint32_t i = self.lane; i < chunks; i += 32) sum = combine(sum, of_row[i]);
  return lane_combine(sum);
}
