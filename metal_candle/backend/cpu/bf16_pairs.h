// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// AVX-512's instruction for bf16 takes pairs, which lie in 32 bits: elements 2p and 2p + 1 of a row
// of a, and of a column of b. Written with the processor's own vectors, as Highway's targets do not
// have the instruction. For code between the same attributes, on x86-64.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "hwy/base.h"
#include "metal_candle/core/dtype.h"

#define METAL_CANDLE_BF16_ATTRIBUTES "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"

HWY_PUSH_ATTRIBUTES(METAL_CANDLE_BF16_ATTRIBUTES)
namespace metal_candle::backend::cpu::bf16_pairs {

inline constexpr std::int64_t kLanes = 16;  // f32, or pairs.

/// sum + the products of 16 pairs.
inline __m512 dot(__m512 sum, __m512i x, __m512i y) {
  // The pairs are of a type without conversions.
  __m512bh left, right;
  std::memcpy(&left, &x, sizeof(left));
  std::memcpy(&right, &y, sizeof(right));
  return _mm512_dpbf16_ps(sum, left, right);
}

/// The pairs of two rows of 32 columns: of the first 16 columns, and of the last.
struct Interleaved {
  __m512i low, high;
};

inline Interleaved interleave(__m512i even, __m512i odd) {
  alignas(64) static constexpr std::uint16_t kLow[32] = {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,
                                                         37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
                                                         11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i low = _mm512_load_si512(kLow);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  return {_mm512_permutex2var_epi16(even, low, odd), _mm512_permutex2var_epi16(even, high, odd)};
}

/// Whether the processor has the instruction, and what goes with it.
inline bool are_supported() {
  static const bool has = __builtin_cpu_supports("avx512bf16") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return has;
}

}  // namespace metal_candle::backend::cpu::bf16_pairs
HWY_POP_ATTRIBUTES
