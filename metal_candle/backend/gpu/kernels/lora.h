// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// out = base + scale * (x @ a) @ b for a few rows and a small rank, in one launch: every group
// makes x @ a again, which is little, and some columns of the result. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"

// Of the low-rank product; as many sums as a thread keeps at once.
constexpr MC_CONSTANT uint32_t kLoraTile = 8;
constexpr MC_CONSTANT uint32_t kLoraMaxRank = 16;
constexpr MC_CONSTANT uint32_t kLoraWarps = 8;

// One row of x a group in y, kLoraWarps * 32 columns a group in x. memory: kLoraMaxRank floats,
// then kLoraWarps * kLoraTile.
template <typename T>
MC_FUNCTION void lora_rows(MC_CONSTANT LoraRowsArguments& arguments, MC_GROUP char* memory,
                           Thread self) {
  MC_GROUP float* low = reinterpret_cast<MC_GROUP float*>(memory);
  MC_GROUP float* parts = low + kLoraMaxRank;
  const int64_t row = self.group_y;
  const MC_GLOBAL T* x = static_cast<const MC_GLOBAL T*>(arguments.x) + row * arguments.depth;
  const MC_GLOBAL T* a = static_cast<const MC_GLOBAL T*>(arguments.a);
  for (uint32_t first = 0; first < arguments.rank; first += kLoraTile) {
    float sums[kLoraTile];
    for (uint32_t r = 0; r < kLoraTile; ++r) sums[r] = 0.0f;
    for (int64_t i = self.index; i < arguments.depth; i += self.size) {
      const float value = float(x[i]);
      const MC_GLOBAL T* entry = a + i * arguments.a_row_stride + first * arguments.a_column_stride;
      MC_UNROLL
      for (uint32_t r = 0; r < kLoraTile; ++r) {
        if (first + r < arguments.rank) {
          sums[r] = fmaf(value, float(entry[r * arguments.a_column_stride]), sums[r]);
        }
      }
    }
    MC_UNROLL
    for (uint32_t r = 0; r < kLoraTile; ++r) {
      const float sum = lane_sum(sums[r]);
      if (self.lane == 0) parts[self.warp * kLoraTile + r] = sum;
    }
    group_barrier();
    if (self.index < kLoraTile && first + self.index < arguments.rank) {
      float sum = 0.0f;
      for (uint32_t w = 0; w < kLoraWarps; ++w) sum += parts[w * kLoraTile + self.index];
      // As a product of its own would be.
      low[first + self.index] = float(T(sum));
    }
    group_barrier();
  }
  const int64_t column = int64_t{self.group} * self.size + self.index;
  if (column >= arguments.columns) return;
  const MC_GLOBAL T* b =
      static_cast<const MC_GLOBAL T*>(arguments.b) + column * arguments.b_column_stride;
  float sum = 0.0f;
  for (uint32_t r = 0; r < arguments.rank; ++r) {
    sum = fmaf(low[r], float(b[r * arguments.b_row_stride]), sum);
  }
  const int64_t place = row * arguments.columns + column;
  float y = arguments.scale * sum;
  if (arguments.base != nullptr) y += float(static_cast<const MC_GLOBAL T*>(arguments.base)[place]);
  static_cast<MC_GLOBAL T*>(arguments.out)[place] = T(y);
}
MC_KERNEL(lora_rows_f32, LoraRowsArguments, 256, 320, lora_rows<float>);
MC_KERNEL(lora_rows_f16, LoraRowsArguments, 256, 320, lora_rows<half>);
MC_KERNEL(lora_rows_bf16, LoraRowsArguments, 256, 320, lora_rows<bfloat>);
