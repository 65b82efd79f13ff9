// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a library's matrix product leaves to do: activations that it does not have, products of few
// rows and of integers. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"

// As op::Activation numbers them.
MC_FUNCTION float activate(float x, uint32_t kind) {
  switch (kind) {
    case 1:
      return x < 0.0f ? 0.0f : x;
    case 2:
      return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case 3:
      return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case 4:
      return x / (1.0f + expf(-x));
    default:
      return x;
  }
}

// out[i] = activation(sums[i] + bias[i % columns]) + residual[i].
template <typename T>
MC_FUNCTION void finish_product(MC_CONSTANT FinishProductArguments& arguments, MC_GROUP char*,
                                Thread self) {
  const MC_GLOBAL float* sums = static_cast<const MC_GLOBAL float*>(arguments.sums);
  const MC_GLOBAL T* bias = static_cast<const MC_GLOBAL T*>(arguments.bias);
  const MC_GLOBAL T* residual = static_cast<const MC_GLOBAL T*>(arguments.residual);
  MC_GLOBAL T* out = static_cast<MC_GLOBAL T*>(arguments.out);
  const int64_t step = int64_t{self.groups} * self.size;
  for (int64_t i = int64_t{self.group} * self.size + self.index; i < arguments.count; i += step) {
    float x = sums[i];
    if (bias != nullptr) x += float(bias[i % arguments.columns]);
    x = activate(x, arguments.activation);
    if (residual != nullptr) x += float(residual[i]);
    out[i] = T(x);
  }
}
MC_KERNEL_MERGED(finish_product_f32, FinishProductArguments, 256, 0, finish_product<float>);
MC_KERNEL_MERGED(finish_product_f16, FinishProductArguments, 256, 0, finish_product<half>);
MC_KERNEL_MERGED(finish_product_bf16, FinishProductArguments, 256, 0, finish_product<bfloat>);

// A product of a few rows with a weight whose columns are dense: what a step of decoding consists
// of, and bound by reading the weight. A warp, or some that share the depth, makes four columns at
// once, or two of the weight and the same two of `up`; 16 bytes a load. Rows, columns and packets
// begin at multiples of 16 bytes. The norm of x is a factor of each sum, known when all of x has
// been seen.
constexpr MC_CONSTANT uint32_t kFewColumns = 4;
constexpr MC_CONSTANT uint32_t kFewRowsWarps = 8;

template <typename T, int kRows>
MC_FUNCTION void product_of_few_rows(MC_CONSTANT FewRowsArguments& arguments, MC_GROUP char* memory,
                                     Thread self) {
  constexpr int kWidth = 16 / sizeof(T);
  const bool gated = arguments.up != nullptr;
  const uint32_t share = 1u << arguments.share_shift;
  const uint32_t part = self.warp & (share - 1);
  const uint32_t set = (self.group * kFewRowsWarps + self.warp) >> arguments.share_shift;
  const uint32_t outputs = gated ? kFewColumns / 2 : kFewColumns;
  const uint32_t first = set * outputs;
  const uint32_t packets = arguments.depth / kWidth;
  const MC_GLOBAL Packet<T, kWidth>* x =
      static_cast<const MC_GLOBAL Packet<T, kWidth>*>(arguments.x);
  const MC_GLOBAL Packet<T, kWidth>* norm =
      static_cast<const MC_GLOBAL Packet<T, kWidth>*>(arguments.norm);
  const MC_GLOBAL Packet<T, kWidth>* column[kFewColumns];
  MC_UNROLL
  for (uint32_t c = 0; c < kFewColumns; ++c) {
    // Past the last column others are read twice.
    const uint32_t wanted = first + (gated ? c / 2 : c);
    const uint32_t at = wanted < arguments.columns ? wanted : arguments.columns - 1;
    const MC_GLOBAL void* matrix = gated && c % 2 == 1 ? arguments.up : arguments.weight;
    column[c] = reinterpret_cast<const MC_GLOBAL Packet<T, kWidth>*>(
        static_cast<const MC_GLOBAL T*>(matrix) + uint64_t(at) * arguments.column_stride);
  }
  // A lane an output in the end; what is added there is on its way while the weight is read.
  const bool writes = part == 0 && self.lane < outputs && first + self.lane < arguments.columns;
  const MC_GLOBAL T* bias = static_cast<const MC_GLOBAL T*>(arguments.bias);
  const MC_GLOBAL T* residual = static_cast<const MC_GLOBAL T*>(arguments.residual);
  const float shift = writes && bias != nullptr ? float(bias[first + self.lane]) : 0.0f;
  float added[kRows];
  float sums[kRows][kFewColumns];
  float squares[kRows];
  MC_UNROLL
  for (int r = 0; r < kRows; ++r) {
    added[r] = writes && residual != nullptr
                   ? float(residual[uint64_t(r) * arguments.columns + first + self.lane])
                   : 0.0f;
    squares[r] = 0.0f;
    MC_UNROLL
    for (uint32_t c = 0; c < kFewColumns; ++c) sums[r][c] = 0.0f;
  }
  // Not unrolled: there are enough warps to hide what a load takes, but a kernel that runs for
  // microseconds is held up by fetching its own instructions.
  MC_UNROLL_BY(1)
  for (uint32_t i = part * 32 + self.lane; i < packets; i += share * 32) {
    Packet<T, kWidth> w[kFewColumns];
    MC_UNROLL
    for (uint32_t c = 0; c < kFewColumns; ++c) w[c] = column[c][i];
    Packet<T, kWidth> factors;
    if (norm != nullptr) factors = norm[i];
    MC_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const Packet<T, kWidth> row = x[r * packets + i];
      MC_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        float value = float(row.values[j]);
        if (norm != nullptr) {
          squares[r] = fmaf(value, value, squares[r]);
          value *= float(factors.values[j]);
        }
        MC_UNROLL
        for (uint32_t c = 0; c < kFewColumns; ++c) {
          sums[r][c] = fmaf(value, float(w[c].values[j]), sums[r][c]);
        }
      }
    }
  }
  MC_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (norm != nullptr) squares[r] = lane_sum(squares[r]);
    MC_UNROLL
    for (uint32_t c = 0; c < kFewColumns; ++c) sums[r][c] = lane_sum(sums[r][c]);
  }
  if (share > 1) {
    // Sums of the columns and of the squares, a row after the other, for each warp.
    constexpr uint32_t kSums = kRows * (kFewColumns + 1);
    MC_GROUP float* const shared = reinterpret_cast<MC_GROUP float*>(memory);
    if (self.lane == 0) {
      MC_UNROLL
      for (int r = 0; r < kRows; ++r) {
        MC_GROUP float* const mine = shared + self.warp * kSums + r * (kFewColumns + 1);
        MC_UNROLL
        for (uint32_t c = 0; c < kFewColumns; ++c) mine[c] = sums[r][c];
        mine[kFewColumns] = squares[r];
      }
    }
    group_barrier();
    if (part != 0) return;
    for (uint32_t other = 1; other < share; ++other) {
      MC_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const MC_GROUP float* const theirs =
            shared + (self.warp + other) * kSums + r * (kFewColumns + 1);
        MC_UNROLL
        for (uint32_t c = 0; c < kFewColumns; ++c) sums[r][c] += theirs[c];
        squares[r] += theirs[kFewColumns];
      }
    }
  }
  if (!writes) return;
  MC_GLOBAL T* out = static_cast<MC_GLOBAL T*>(arguments.out) + first + self.lane;
  MC_UNROLL
  for (int r = 0; r < kRows; ++r) {
    float scale = arguments.scale;
    if (norm != nullptr) scale *= rsqrtf(squares[r] / float(arguments.depth) + arguments.eps);
    float mine = 0.0f;
    float other = 0.0f;
    MC_UNROLL
    for (uint32_t c = 0; c < kFewColumns; ++c) {
      if (c == (gated ? 2 * self.lane : self.lane)) mine = scale * sums[r][c];
      if (c == 2 * self.lane + 1) other = scale * sums[r][c];
    }
    const float y = gated ? mine / (1.0f + expf(-mine)) * other
                          : activate(mine + shift, arguments.activation) + added[r];
    out[uint64_t(r) * arguments.columns] = T(y);
  }
}
#define MC_FEW_ROWS(suffix, T, rows)                                  \
  MC_KERNEL_MERGED(few_rows_##rows##_##suffix, FewRowsArguments, 256, \
                   4 * kFewRowsWarps * (kFewColumns + 1) * (rows), product_of_few_rows<T, rows>)
#define MC_FEW_ROWS_OF(rows)     \
  MC_FEW_ROWS(f32, float, rows); \
  MC_FEW_ROWS(f16, half, rows);  \
  MC_FEW_ROWS(bf16, bfloat, rows)
MC_FEW_ROWS_OF(1);
MC_FEW_ROWS_OF(2);
MC_FEW_ROWS_OF(3);
MC_FEW_ROWS_OF(4);
#ifndef __CUDACC__  // On NVIDIA GPUs the library makes more than four rows.
MC_FEW_ROWS_OF(5);
MC_FEW_ROWS_OF(6);
MC_FEW_ROWS_OF(7);
MC_FEW_ROWS_OF(8);
#endif
#undef MC_FEW_ROWS
#undef MC_FEW_ROWS_OF

// One element a thread, sums that wrap.
template <typename T, typename Sum>
MC_FUNCTION void integer_product(MC_CONSTANT IntegerProductArguments& arguments, MC_GROUP char*,
                                 Thread self) {
  const int64_t index = int64_t{self.group} * self.size + self.index;
  if (index >= arguments.rows * arguments.columns) return;
  const int64_t row = index / arguments.columns;
  const int64_t column = index % arguments.columns;
  const MC_GLOBAL T* a =
      static_cast<const MC_GLOBAL T*>(arguments.a) + row * arguments.a_row_stride;
  const MC_GLOBAL T* b =
      static_cast<const MC_GLOBAL T*>(arguments.b) + column * arguments.b_column_stride;
  Sum sum = 0;
  for (int64_t i = 0; i < arguments.depth; ++i) {
    sum += Sum(a[i * arguments.a_column_stride]) * Sum(b[i * arguments.b_row_stride]);
  }
  static_cast<MC_GLOBAL T*>(arguments.out)[index] = T(sum);
}
MC_KERNEL(integer_product_u8, IntegerProductArguments, 256, 0, integer_product<uint8_t, uint32_t>);
MC_KERNEL(integer_product_i8, IntegerProductArguments, 256, 0, integer_product<int8_t, uint32_t>);
MC_KERNEL(integer_product_i32, IntegerProductArguments, 256, 0, integer_product<int32_t, uint32_t>);
MC_KERNEL(integer_product_u32, IntegerProductArguments, 256, 0,
          integer_product<uint32_t, uint32_t>);
MC_KERNEL(integer_product_i64, IntegerProductArguments, 256, 0, integer_product<int64_t, uint64_t>);
