// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products of f32, bf16 and f16 with f32 accumulation, on one thread: the block from which
// matmul, LoRA, attention and the fused cross entropy are built. A 16-bit operand is widened while
// it is packed into cache-sized panels, so no f32 copy of a whole weight ever exists; two of bf16
// are multiplied as they are where the processor can (bf16_gemm.h).
//
// Every element of a product is one chain of fused multiply-adds in the order of k, cut at fixed
// points, whatever block it is computed in: results do not depend on how work was divided.
#pragma once

#include <cstddef>
#include <cstdint>

#include "metal_candle/core/dtype.h"

namespace metal_candle::backend::cpu {

/// A matrix in memory, with strides in elements. Not owned.
struct Matrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // f32, bf16 or f16.
  std::int64_t row_stride = 0;
  std::int64_t column_stride = 1;

  [[nodiscard]] Matrix block(std::int64_t row, std::int64_t column) const {
    Matrix result = *this;
    result.data = static_cast<const char*>(data) + (row * row_stride + column * column_stride) *
                                                       static_cast<std::int64_t>(size_of(dtype));
    return result;
  }
  [[nodiscard]] Matrix transposed() const { return {data, dtype, column_stride, row_stride}; }
};

/// c[m, n] (row-major with leading dimension ldc) = a[m, k] @ b[k, n], or c += when `accumulate`.
/// Runs on the calling thread and allocates nothing but its reusable workspace. With k == 0 the
/// product is zero.
void gemm_block(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
                float* c, std::int64_t ldc, bool accumulate);

}  // namespace metal_candle::backend::cpu
