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
                                Thread thread) {
  const MC_GLOBAL float* sums = static_cast<const MC_GLOBAL float*>(arguments.sums);
  const MC_GLOBAL T* bias = static_cast<const MC_GLOBAL T*>(arguments.bias);
  const MC_GLOBAL T* residual = static_cast<const MC_GLOBAL T*>(arguments.residual);
  MC_GLOBAL T* out = static_cast<MC_GLOBAL T*>(arguments.out);
  const int64_t step = int64_t{thread.groups} * thread.size;
  for (int64_t i = int64_t{thread.group} * thread.size + thread.index; i < arguments.count;
       i += step) {
    float x = sums[i];
    if (bias != nullptr) x += float(bias[i % arguments.columns]);
    x = activate(x, arguments.activation);
    if (residual != nullptr) x += float(residual[i]);
    out[i] = T(x);
  }
}
MC_KERNEL(finish_product_f32, FinishProductArguments, 256, 0, finish_product<float>);
MC_KERNEL(finish_product_f16, FinishProductArguments, 256, 0, finish_product<half>);
MC_KERNEL(finish_product_bf16, FinishProductArguments, 256, 0, finish_product<bfloat>);

// One element a thread, sums that wrap.
template <typename T, typename Sum>
MC_FUNCTION void integer_product(MC_CONSTANT IntegerProductArguments& arguments, MC_GROUP char*,
                                 Thread thread) {
  const int64_t index = int64_t{thread.group} * thread.size + thread.index;
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
