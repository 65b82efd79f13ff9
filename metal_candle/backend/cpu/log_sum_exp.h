// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A sum of exponentials that neither overflows nor underflows, and how two of them meet.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace metal_candle::backend::cpu {

/// sum * exp(shift). The shift is finite; the sum is 0 only when every element was -infinity.
struct ShiftedSum {
  float shift = 0;
  float sum = 0;
};

inline ShiftedSum combine(ShiftedSum a, ShiftedSum b) {
  // An infinite or NaN sum outweighs everything; so would it 0 * infinity below.
  if (b.sum == 0 || !std::isfinite(a.sum)) return std::isnan(b.sum) ? b : a;
  if (a.sum == 0 || !std::isfinite(b.sum)) return b;
  const float shift = std::max(a.shift, b.shift);
  return {shift, a.sum * std::exp(a.shift - shift) + b.sum * std::exp(b.shift - shift)};
}

/// The logarithm: -infinity, infinity and NaN come out as they should.
inline float log(ShiftedSum s) { return s.shift + std::log(s.sum); }

/// Elements of a row that one thread takes at a time. Part of the result's rounding, so not tuned
/// to the number of threads.
inline constexpr std::int64_t kChunk = 16384;
inline std::int64_t num_chunks(std::int64_t n) { return (n + kChunk - 1) / kChunk; }

/// Scratch for the statistics of `rows` rows of length n.
inline std::size_t partial_bytes(std::int64_t rows, std::int64_t n) {
  const std::int64_t chunks = num_chunks(n);
  return chunks <= 1 ? 0 : static_cast<std::size_t>(rows * chunks) * sizeof(ShiftedSum);
}

}  // namespace metal_candle::backend::cpu
