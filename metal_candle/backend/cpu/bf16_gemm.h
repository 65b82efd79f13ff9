// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Products of bf16 matrices with AVX-512's instruction for them, which multiplies pairs of bf16 and
// adds both to an f32: twice the rate of f32, and no widening.
#pragma once

#include <cstdint>

#include "metal_candle/backend/cpu/gemm.h"

namespace metal_candle::backend::cpu {

/// Whether bf16_gemm() is for such a product: on a processor with that instruction, for matrices of
/// bf16 one stride of each of which is 1.
[[nodiscard]] bool takes_bf16_gemm(const Matrix& a, const Matrix& b);

/// gemm_block() for what takes_bf16_gemm() says; k > 0. If `next_b` is not null, it is where the b
/// of the thread's next product begins, which lies as this one does: it is asked for meanwhile.
void bf16_gemm(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
               float* c, std::int64_t ldc, bool accumulate, const void* next_b = nullptr);

}  // namespace metal_candle::backend::cpu
