// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Row operations on f32 tiles.
#include "metal_candle/backend/cpu/rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/rows.cpp"
#include "hwy/foreach_target.h"
// foreach_target.h comes before what it includes again.
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"
#include "metal_candle/backend/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

// Calls fn with a pointer of the dtype's element type.
template <class Fn>
HWY_INLINE auto WithType(DType dtype, const void* data, Fn&& fn) {
  if (dtype == DType::kBF16) return fn(static_cast<const BFloat16*>(data));
  if (dtype == DType::kF16) return fn(static_cast<const Float16*>(data));
  return fn(static_cast<const float*>(data));
}

HWY_ATTR void WidenRow(const void* from, DType dtype, std::int64_t count, float scale, float* to) {
  const F32 d;
  const VecF32 factor = hn::Set(d, scale);
  WithType(dtype, from, [&](const auto* p) HWY_ATTR {
    for_each_vector(d, static_cast<std::size_t>(count), [&](std::size_t i, auto part) HWY_ATTR {
      store(hn::Mul(load(d, p + i, part), factor), d, to + i, part);
    });
  });
}

HWY_ATTR void NarrowRow(const float* from, std::int64_t count, float scale, DType dtype, void* to) {
  const F32 d;
  const VecF32 factor = hn::Set(d, scale);
  WithType(dtype, to, [&](const auto* typed) HWY_ATTR {
    auto* const out =
        const_cast<std::remove_const_t<std::remove_pointer_t<decltype(typed)>>*>(typed);
    for_each_vector(d, static_cast<std::size_t>(count), [&](std::size_t i, auto part) HWY_ATTR {
      store(hn::Mul(load(d, from + i, part), factor), d, out + i, part);
    });
  });
}

HWY_ATTR float SoftmaxPiece(float* scores, std::int64_t count, RunningSoftmax& running) {
  const F32 d;
  const auto n = static_cast<std::size_t>(count);
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const auto larger = [](VecF32 a, VecF32 b) HWY_ATTR { return hn::Max(a, b); };
  const VecF32 largest = fold_row(
      d, n, hn::Set(d, kLowest),
      [&](std::size_t i, auto part, VecF32 acc)
          HWY_ATTR { return hn::Max(acc, load(d, scores + i, part, kLowest)); },
      larger);
  const float max = std::max(running.max, hn::GetLane(hn::MaxOfLanes(d, largest)));
  if (max == kLowest) {
    std::fill_n(scores, count, 0.0f);
    return 1.0f;
  }
  const VecF32 shift = hn::Set(d, max);
  // Padding adds exp(-infinity) = 0.
  const float sum = sum_row(d, n, [&](std::size_t i, auto part, VecF32 acc) HWY_ATTR {
    const VecF32 e = ExpFlush(d, hn::Sub(load(d, scores + i, part, kLowest), shift));
    store(e, d, scores + i, part);
    return hn::Add(acc, e);
  });
  const float correction = running.max == kLowest ? 0.0f : std::exp(running.max - max);
  running.sum = running.sum * correction + sum;
  running.max = max;
  return correction;
}

HWY_ATTR void ScaleRow(float* row, std::int64_t count, float factor) {
  const F32 d;
  for_each_vector(d, static_cast<std::size_t>(count), [&](std::size_t i, auto part) HWY_ATTR {
    store(hn::Mul(load(d, row + i, part), hn::Set(d, factor)), d, row + i, part);
  });
}

HWY_ATTR void Probabilities(float* scores, std::int64_t count, float logsumexp) {
  const F32 d;
  const VecF32 shift = hn::Set(d, logsumexp);
  for_each_vector(d, static_cast<std::size_t>(count), [&](std::size_t i, auto part) HWY_ATTR {
    store(ExpFlush(d, hn::Sub(load(d, scores + i, part), shift)), d, scores + i, part);
  });
}

HWY_ATTR void ScoreGradient(const float* p, std::int64_t count, float delta, float* ds) {
  const F32 d;
  const VecF32 shift = hn::Set(d, delta);
  for_each_vector(d, static_cast<std::size_t>(count), [&](std::size_t i, auto part) HWY_ATTR {
    const VecF32 v = hn::Sub(load(d, ds + i, part), shift);
    store(hn::Mul(load(d, p + i, part), v), d, ds + i, part);
  });
}

HWY_ATTR float DotRow(const void* a, const void* b, DType dtype, std::int64_t count) {
  const F32 d;
  return WithType(dtype, a, [&](const auto* x) HWY_ATTR {
    const auto* const y = static_cast<decltype(x)>(b);
    return sum_row(d, static_cast<std::size_t>(count),
                   [&](std::size_t i, auto part, VecF32 acc) HWY_ATTR {
                     return hn::MulAdd(load(d, x + i, part), load(d, y + i, part), acc);
                   });
  });
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {

HWY_EXPORT(WidenRow);
HWY_EXPORT(NarrowRow);
HWY_EXPORT(SoftmaxPiece);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(Probabilities);
HWY_EXPORT(ScoreGradient);
HWY_EXPORT(DotRow);

void widen_row(const void* from, DType dtype, std::int64_t count, float scale, float* to) {
  HWY_DYNAMIC_DISPATCH(WidenRow)(from, dtype, count, scale, to);
}
void narrow_row(const float* from, std::int64_t count, float scale, DType dtype, void* to) {
  HWY_DYNAMIC_DISPATCH(NarrowRow)(from, count, scale, dtype, to);
}
float softmax_piece(float* scores, std::int64_t count, RunningSoftmax& running) {
  return HWY_DYNAMIC_DISPATCH(SoftmaxPiece)(scores, count, running);
}
void scale_row(float* row, std::int64_t count, float factor) {
  HWY_DYNAMIC_DISPATCH(ScaleRow)(row, count, factor);
}
void probabilities(float* scores, std::int64_t count, float logsumexp) {
  if (logsumexp == -std::numeric_limits<float>::infinity()) {
    std::fill_n(scores, count, 0.0f);
  } else {
    HWY_DYNAMIC_DISPATCH(Probabilities)(scores, count, logsumexp);
  }
}
void score_gradient(const float* p, std::int64_t count, float delta, float* d) {
  HWY_DYNAMIC_DISPATCH(ScoreGradient)(p, count, delta, d);
}
float dot_row(const void* a, const void* b, DType dtype, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotRow)(a, b, dtype, count);
}

}  // namespace metal_candle::backend::cpu
#endif
