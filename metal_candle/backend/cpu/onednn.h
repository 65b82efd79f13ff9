// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The matrix products that oneDNN computes for us, each on the calling thread alone. Once the
// process has begun to exit, gemm_block() computes them instead.
#pragma once

#include <cstdint>

#include "metal_candle/backend/cpu/gemm.h"

namespace metal_candle::backend::cpu {

/// Whether oneDNN takes an operand as it lies: one stride is 1 and the other at least as long as
/// what it steps over.
[[nodiscard]] inline bool onednn_takes(const Matrix& matrix, std::int64_t rows,
                                       std::int64_t columns) {
  return (matrix.column_stride == 1 && matrix.row_stride >= columns) ||
         (matrix.row_stride == 1 && matrix.column_stride >= rows);
}

/// c[m, n] = a[m, k] @ b[k, n], or c += when `accumulate`, all f32; k > 0. The caller's OpenMP
/// settings are as they were.
void onednn_sgemm(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
                  float* c, std::int64_t ldc, bool accumulate);

/// Whether oneDNN's matmul primitive has a kernel generated for this processor: for f32 from
/// AVX-512 on, for bf16 where the processor multiplies it.
[[nodiscard]] bool has_onednn_matmul(DType dtype);

/// Whether the processor multiplies bf16 in tiles (AMX), for which oneDNN generates code.
[[nodiscard]] bool has_bf16_matrix_units();

/// c[m, n] f32 = a[m, k] @ b[k, n], or c += when `accumulate`; both f32 or both bf16, with one
/// stride of 1; k > 0. Fast only if ldc is n. Only where has_onednn_matmul(). Each thread keeps the
/// primitives it made last.
void onednn_matmul(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
                   float* c, std::int64_t ldc, bool accumulate);

}  // namespace metal_candle::backend::cpu
