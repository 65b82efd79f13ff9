// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the norm kernels are told when they are made.
#pragma once

#include <algorithm>
#include <cstdint>

#include "metal_candle/backend/cpu/row_map.h"

namespace metal_candle::backend::cpu {

struct NormPlan {
  bool layer = false;  // Layer norm, else RMS norm.
  float eps = 0;
  DType dtype = DType::kF32;         // Of x, dy, y and dx.
  DType weight_dtype = DType::kF32;  // Of the weight, bias and dweight.
  bool has_weight = false;
  bool has_bias = false;
  bool has_residual = false;  // Of the gradient.
  std::int64_t rows = 0, n = 0;
  RowMap x, dy;
  bool stream = false;  // The large output exceeds the caches.

  // The gradient of the weight is summed in blocks of rows, whose number depends on the shape only.
  [[nodiscard]] std::int64_t block_rows() const {
    constexpr std::int64_t kMinRows = 4, kMaxBlocks = 64;
    return std::max(kMinRows, (rows + kMaxBlocks - 1) / kMaxBlocks);
  }
  [[nodiscard]] std::int64_t blocks() const { return (rows + block_rows() - 1) / block_rows(); }
};

}  // namespace metal_candle::backend::cpu
