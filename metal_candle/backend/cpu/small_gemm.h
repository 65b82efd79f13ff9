// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Products with few rows on the left, as in decoding. The weight is read once, in the order in
// which it lies in memory and without being packed: its bandwidth is what such a product costs.
#pragma once

#include <cstdint>

#include "metal_candle/backend/cpu/gemm.h"

namespace metal_candle::backend::cpu {

/// Up to this many rows reading the weight costs more than the arithmetic.
inline constexpr std::int64_t kSmallGemmRows = 8;

/// What is asked for while some rows of b are worked on. Rows are often shorter than what a
/// hardware prefetcher needs to get going, and several side by side are many streams for it.
enum class Ahead {
  kNothing,  // There are no more: what lies behind b may cost a page walk.
  kInOrder,  // The next rows in the order in which they lie, because they are read whole.
  kInStrip,  // Their part in the strip being worked on.
};

/// Whether small_gemm() is for such a product. Columns of b that are short are better packed.
[[nodiscard]] inline bool is_small_gemm(const Matrix& b, std::int64_t m, std::int64_t k) {
  return m <= kSmallGemmRows && (b.column_stride == 1 || (b.row_stride == 1 && k >= 64));
}

/// gemm_block() for what is_small_gemm() says; k > 0.
void small_gemm(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
                float* c, std::int64_t ldc, bool accumulate);

}  // namespace metal_candle::backend::cpu
