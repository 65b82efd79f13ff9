// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// log(sum(exp(row))) in one reading of memory, in pieces that threads can share: what LogSumExp,
// cross entropy and softmax over long rows have in common.
#if defined(METAL_CANDLE_BACKEND_CPU_LOG_SUM_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef METAL_CANDLE_BACKEND_CPU_LOG_SUM_EXP_INL_H_
#undef METAL_CANDLE_BACKEND_CPU_LOG_SUM_EXP_INL_H_
#else
#define METAL_CANDLE_BACKEND_CPU_LOG_SUM_EXP_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "metal_candle/backend/cpu/float_io-inl.h"
#include "metal_candle/backend/cpu/log_sum_exp.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/row_map.h"
#include "metal_candle/backend/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {

/// The largest element; -infinity for an empty row. A NaN may or may not be seen, which is enough
/// where exp(x - max) is summed after.
template <typename T>
HWY_INLINE float row_max(F32 d, const T* x, std::size_t n) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const auto max = [](VecF32 a, VecF32 b) HWY_ATTR { return hn::Max(a, b); };
  const VecF32 v = fold_row(
      d, n, hn::Set(d, kLowest),
      [&](std::size_t i, auto part, VecF32 acc)
          HWY_ATTR { return hn::Max(acc, load(d, x + i, part, kLowest)); },
      max);
  return hn::GetLane(hn::MaxOfLanes(d, v));
}

/// The sum of exp(x - shift), shift finite. `next` is what will be read next.
template <typename T>
HWY_INLINE float sum_exp(F32 d, const T* x, std::size_t n, float shift, const T* next) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const VecF32 s = hn::Set(d, shift);
  const Prefetcher<T> prefetch{next};
  return sum_row(d, n, [&](std::size_t i, auto part, VecF32 acc) HWY_ATTR {
    prefetch(i);
    return hn::Add(acc, ExpFlush(d, hn::Sub(load(d, x + i, part, kLowest), s)));
  });
}

/// The statistics of one chunk: blocks that fit in the first-level cache are read twice there.
template <typename T>
HWY_INLINE ShiftedSum shifted_sum(F32 d, const T* x, std::size_t n) {
  constexpr std::size_t kBlock = 4096;
  ShiftedSum total;
  for (std::size_t i = 0; i < n; i += kBlock) {
    const std::size_t count = std::min(kBlock, n - i);
    const float max = row_max(d, x + i, count);
    const float shift = std::isinf(max) ? 0.0f : max;
    const T* next = i + 2 * kBlock <= n ? x + i + kBlock : x + i;
    total = combine(total, {shift, sum_exp(d, x + i, count, shift, next)});
  }
  return total;
}

/// Writes the statistics of every row of length n: finish(row, statistics) is called once for each,
/// concurrently. `partials` holds rows * num_chunks(n) of them when a row has several chunks.
template <typename T, class Finish>
HWY_INLINE void for_each_row_sum(const T* x, const RowMap& offset, std::int64_t rows,
                                 std::int64_t n, ShiftedSum* partials, const Finish& finish) {
  const std::int64_t chunks = num_chunks(n);
  if (chunks <= 1) {
    parallel_for(rows, row_grain(n), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
      for (std::int64_t row = begin; row < end; ++row) {
        finish(row, shifted_sum(F32(), x + offset(row), static_cast<std::size_t>(n)));
      }
    });
    return;
  }
  parallel_for(rows * chunks, 1, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t start = i % chunks * kChunk;
      partials[i] = shifted_sum(F32(), x + offset(i / chunks) + start,
                                static_cast<std::size_t>(std::min(kChunk, n - start)));
    }
  });
  for (std::int64_t row = 0; row < rows; ++row) {
    ShiftedSum total;
    for (std::int64_t c = 0; c < chunks; ++c) total = combine(total, partials[row * chunks + c]);
    finish(row, total);
  }
}

}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // METAL_CANDLE_BACKEND_CPU_LOG_SUM_EXP_INL_H_
