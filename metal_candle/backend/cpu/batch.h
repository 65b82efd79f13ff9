// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The matrices of a batch, as the CPU's products take them.
#pragma once

#include <cstdint>

#include "metal_candle/backend/batch.h"
#include "metal_candle/backend/cpu/gemm.h"

namespace metal_candle::backend::cpu {

/// A length of 1 leaves a stride without meaning; this gives it the one that suits the kernels.
inline void normalize_strides(Matrix& matrix, std::int64_t rows, std::int64_t columns) {
  if (columns == 1 && matrix.row_stride != 1) matrix.column_stride = 1;
  if (rows == 1 && matrix.column_stride != 1) matrix.row_stride = 1;
}

/// The strides of the last two axes. The data is set when the kernel runs.
inline Matrix matrix_of(const TensorLayout& layout) {
  const int rank = layout.shape.rank();
  Matrix matrix{nullptr, layout.dtype, layout.strides[rank - 2], layout.strides[rank - 1]};
  normalize_strides(matrix, layout.shape[rank - 2], layout.shape[rank - 1]);
  return matrix;
}

}  // namespace metal_candle::backend::cpu
