// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a library's matrix product leaves to do: activations that it does not have, and products of
// integers. In the dialect of dialect.h.
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
// of, and bound by reading the weight. A warp makes kFewColumns columns at once; 16 bytes a load.
// Rows, columns and packets begin at multiples of 16 bytes.
constexpr MC_CONSTANT uint32_t kFewColumns = 2;

template <typename T, int kRows>
MC_FUNCTION void product_of_few_rows(MC_CONSTANT FewRowsArguments& arguments, MC_GROUP char*,
                                     Thread self) {
  constexpr int kWidth = 16 / sizeof(T);
  const uint32_t warp = self.group * (self.size / 32) + self.warp;
  const uint32_t first = warp * kFewColumns;
  if (first >= arguments.columns) return;
  const uint32_t packets = arguments.depth / kWidth;
  const MC_GLOBAL Packet<T, kWidth>* x =
      static_cast<const MC_GLOBAL Packet<T, kWidth>*>(arguments.x);
  const MC_GLOBAL T* weight = static_cast<const MC_GLOBAL T*>(arguments.weight);
  const MC_GLOBAL Packet<T, kWidth>* column[kFewColumns];
  MC_UNROLL
  for (uint32_t c = 0; c < kFewColumns; ++c) {
    // The last warp may have a column less: it reads one twice.
    const uint32_t at = first + c < arguments.columns ? first + c : first;
    column[c] =
        reinterpret_cast<const MC_GLOBAL Packet<T, kWidth>*>(weight + at * arguments.column_stride);
  }
  float sums[kRows][kFewColumns];
  MC_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MC_UNROLL
    for (uint32_t c = 0; c < kFewColumns; ++c) sums[r][c] = 0.0f;
  }
  MC_UNROLL_BY(2)
  for (uint32_t i = self.lane; i < packets; i += 32) {
    Packet<T, kWidth> w[kFewColumns];
    MC_UNROLL
    for (uint32_t c = 0; c < kFewColumns; ++c) w[c] = column[c][i];
    MC_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const Packet<T, kWidth> row = x[r * packets + i];
      MC_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        MC_UNROLL
        for (uint32_t c = 0; c < kFewColumns; ++c) {
          sums[r][c] = fmaf(float(row.values[j]), float(w[c].values[j]), sums[r][c]);
        }
      }
    }
  }
  const MC_GLOBAL T* bias = static_cast<const MC_GLOBAL T*>(arguments.bias);
  const MC_GLOBAL T* residual = static_cast<const MC_GLOBAL T*>(arguments.residual);
  MC_GLOBAL T* out = static_cast<MC_GLOBAL T*>(arguments.out);
  MC_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MC_UNROLL
    for (uint32_t c = 0; c < kFewColumns; ++c) {
      const float sum = lane_sum(sums[r][c]);
      if (self.lane != 0 || first + c >= arguments.columns) continue;
      const uint64_t place = uint64_t(r) * arguments.columns + first + c;
      float y = arguments.scale * sum;
      if (bias != nullptr) y += float(bias[first + c]);
      y = activate(y, arguments.activation);
      if (residual != nullptr) y += float(residual[place]);
      out[place] = T(y);
    }
  }
}
#define MC_FEW_ROWS(suffix, T)                                                                \
  MC_KERNEL_MERGED(few_rows_1_##suffix, FewRowsArguments, 256, 0, product_of_few_rows<T, 1>); \
  MC_KERNEL_MERGED(few_rows_2_##suffix, FewRowsArguments, 256, 0, product_of_few_rows<T, 2>); \
  MC_KERNEL_MERGED(few_rows_3_##suffix, FewRowsArguments, 256, 0, product_of_few_rows<T, 3>); \
  MC_KERNEL_MERGED(few_rows_4_##suffix, FewRowsArguments, 256, 0, product_of_few_rows<T, 4>)
MC_FEW_ROWS(f32, float);
MC_FEW_ROWS(f16, half);
MC_FEW_ROWS(bf16, bfloat);
#undef MC_FEW_ROWS

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
