// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Products of bf16 matrices with few rows on the left, with AVX-512's instruction for them, which
// multiplies pairs of bf16 and adds both to an f32: twice the rate of f32, and no widening.
#pragma once

#include <cstdint>

#include "metal_candle/backend/cpu/gemm.h"

namespace metal_candle::backend::cpu {

/// Whether bf16_small_gemm() is for such a product of m rows: on a processor with that instruction,
/// unless b is so narrow that small_gemm(), which keeps the sums of a row in registers, is quicker.
[[nodiscard]] bool takes_bf16_small_gemm(const Matrix& b, std::int64_t m, std::int64_t n);

/// small_gemm() for two matrices of bf16, where takes_bf16_small_gemm().
void bf16_small_gemm(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n,
                     std::int64_t k, float* c, std::int64_t ldc, bool accumulate);

}  // namespace metal_candle::backend::cpu
