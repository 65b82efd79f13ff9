// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Cross entropy of logits with class indices, from the sums of softmax.h, and its gradient. A
// target that is no class gives NaN. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/rows.h"
#include "metal_candle/backend/gpu/kernels/shifted_sum.h"

MC_FUNCTION int64_t read_target(MC_CONSTANT CrossEntropyArguments& arguments, uint32_t row) {
  if (arguments.wide_targets != 0) {
    return static_cast<const MC_GLOBAL int64_t*>(arguments.targets)[row];
  }
  return static_cast<const MC_GLOBAL int32_t*>(arguments.targets)[row];
}

// Loss and logsumexp of one row a warp.
template <typename T>
MC_FUNCTION void cross_entropy(MC_CONSTANT CrossEntropyArguments& arguments, MC_GROUP char*,
                               Thread self) {
  const uint32_t row = self.group * (self.size / 32) + self.warp;
  if (row >= arguments.rows) return;
  const ShiftedSum sum = sum_of_chunks(arguments.partials, row, arguments.chunks, self);
  if (self.lane != 0) return;
  if (arguments.logsumexp != nullptr) arguments.logsumexp[row] = log(sum);
  if (arguments.loss == nullptr) return;
  const int64_t target = read_target(arguments, row);
  float loss = NAN;
  if (target == arguments.ignore_index) {
    loss = 0.0f;
  } else if (target >= 0 && target < arguments.n) {
    const float x = float(
        static_cast<const MC_GLOBAL T*>(arguments.logits)[row_offset(arguments.map, row) + target]);
    // The shift is taken off first: both it and the logit may be large, their difference not.
    loss = logf(sum.sum) + (finite_or_zero(sum.largest) - x);
  }
  arguments.loss[row] = loss;
}

// (exp(x - logsumexp) - [i == target]) * dloss, of one chunk of one row a group.
template <typename T, int width>
MC_FUNCTION void cross_entropy_backward(MC_CONSTANT CrossEntropyArguments& arguments,
                                        MC_GROUP char*, Thread self) {
  const uint32_t row = self.group / arguments.chunks;
  const uint32_t begin = self.group % arguments.chunks * arguments.chunk;
  const uint32_t end =
      begin + arguments.chunk < arguments.n ? begin + arguments.chunk : arguments.n;
  const int64_t target = read_target(arguments, row);
  const bool ignored = target == arguments.ignore_index;
  const bool known = target >= 0 && target < arguments.n;
  const float logsumexp = arguments.logsumexp[row];
  const float dloss = ignored ? 0.0f : known ? arguments.dloss[row] : NAN;
  const MC_GLOBAL T* const x =
      static_cast<const MC_GLOBAL T*>(arguments.logits) + row_offset(arguments.map, row);
  MC_GLOBAL T* const dx = static_cast<MC_GLOBAL T*>(arguments.dlogits) + int64_t(row) * arguments.n;
  enum { in_flight = 4 };
  const uint32_t step = self.size * width;
  for (uint32_t first = begin + self.index * width; first < end; first += in_flight * step) {
    Packet<T, width> packets[in_flight];
    MC_UNROLL
    for (int p = 0; p < in_flight; ++p) {
      const uint32_t column = first + p * step;
      if (column < end) packets[p] = load_packet<T, width>(x + column);
    }
    MC_UNROLL
    for (int p = 0; p < in_flight; ++p) {
      const uint32_t column = first + p * step;
      if (column >= end) continue;
      MC_UNROLL
      for (int i = 0; i < width; ++i) {
        const float probability = expf(float(packets[p].values[i]) - logsumexp);
        const float gradient = probability - (int64_t(column) + i == target ? 1.0f : 0.0f);
        packets[p].values[i] = T(ignored ? 0.0f : gradient * dloss);
      }
      store_packet(dx + column, packets[p]);
    }
  }
}

#define MC_CROSS_ENTROPY_KERNELS(type, T, width)                                      \
  MC_KERNEL(cross_entropy_##type, CrossEntropyArguments, 128, 0, cross_entropy<T>);   \
  MC_KERNEL(cross_entropy_backward_##type, CrossEntropyArguments, 512, 0,             \
            cross_entropy_backward<T, width>);                                        \
  MC_KERNEL(cross_entropy_backward_##type##_unaligned, CrossEntropyArguments, 512, 0, \
            cross_entropy_backward<T, 1>);
MC_CROSS_ENTROPY_KERNELS(f32, float, 4)
MC_CROSS_ENTROPY_KERNELS(f16, half, 8)
MC_CROSS_ENTROPY_KERNELS(bf16, bfloat, 8)
