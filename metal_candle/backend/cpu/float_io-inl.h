// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rows of f32, f16 or bf16 read and written as vectors of f32: kernels are written once, compute in
// f32 and round once. A row of any length is a run of whole vectors and one partial vector.
#if defined(METAL_CANDLE_BACKEND_CPU_FLOAT_IO_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef METAL_CANDLE_BACKEND_CPU_FLOAT_IO_INL_H_
#undef METAL_CANDLE_BACKEND_CPU_FLOAT_IO_INL_H_
#else
#define METAL_CANDLE_BACKEND_CPU_FLOAT_IO_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "metal_candle/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using F32 = hn::ScalableTag<float>;
using VecF32 = hn::Vec<F32>;
inline constexpr std::size_t kMaxLanes = hn::MaxLanes(F32());

/// How much of a vector lies inside the row.
struct Whole {};
struct Part {
  std::size_t count;
};

namespace detail {

// Highway's conversions are exact where the processor has them; without, they truncate.
#if HWY_TARGET == HWY_SSE2 || HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_SSE4 || \
    HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
HWY_INLINE VecF32 load(F32 d, const Float16* p) {
  HWY_ALIGN float lanes[kMaxLanes];
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = static_cast<float>(p[i]);
  return hn::Load(d, lanes);
}
HWY_INLINE void store(VecF32 v, F32 d, Float16* p) {
  HWY_ALIGN float lanes[kMaxLanes];
  hn::Store(v, d, lanes);
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) p[i] = Float16(lanes[i]);
}
HWY_INLINE void stream(VecF32 v, F32 d, Float16* p) { store(v, d, p); }
#else
HWY_INLINE VecF32 load(F32 d, const Float16* p) {
  const hn::Rebind<hwy::float16_t, F32> half;
  const hn::Rebind<std::uint16_t, F32> bits;
  return hn::PromoteTo(d, hn::BitCast(half, hn::LoadU(bits, &p->bits)));
}
HWY_INLINE auto to_half_bits(VecF32 v) {
  const hn::Rebind<hwy::float16_t, F32> half;
  return hn::BitCast(hn::Rebind<std::uint16_t, F32>(), hn::DemoteTo(half, v));
}
HWY_INLINE void store(VecF32 v, F32, Float16* p) {
  hn::StoreU(to_half_bits(v), hn::Rebind<std::uint16_t, F32>(), &p->bits);
}
HWY_INLINE void stream(VecF32 v, F32, Float16* p) {
  hn::Stream(to_half_bits(v), hn::Rebind<std::uint16_t, F32>(), &p->bits);
}
#endif

HWY_INLINE VecF32 load(F32 d, const float* p) { return hn::LoadU(d, p); }
HWY_INLINE void store(VecF32 v, F32 d, float* p) { hn::StoreU(v, d, p); }
HWY_INLINE void stream(VecF32 v, F32 d, float* p) { hn::Stream(v, d, p); }

HWY_INLINE VecF32 load(F32 d, const BFloat16* p) {
  const hn::RebindToUnsigned<F32> du;
  const hn::Rebind<std::uint16_t, F32> bits;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(bits, &p->bits))));
}
// To nearest even; a NaN stays one.
HWY_INLINE auto to_bfloat_bits(VecF32 v, F32 d) {
  const hn::RebindToUnsigned<F32> du;
  const hn::RebindToSigned<F32> di;
  const auto u = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1u));
  const auto rounded = hn::Add(u, hn::Add(odd, hn::Set(du, 0x7fffu)));
  const auto quiet = hn::Or(u, hn::Set(du, 0x400000u));
  const auto chosen = hn::IfThenElse(hn::IsNaN(v), hn::BitCast(d, quiet), hn::BitCast(d, rounded));
  const auto upper = hn::ShiftRight<16>(hn::BitCast(du, chosen));
  return hn::DemoteTo(hn::Rebind<std::uint16_t, F32>(), hn::BitCast(di, upper));
}
HWY_INLINE void store(VecF32 v, F32 d, BFloat16* p) {
  hn::StoreU(to_bfloat_bits(v, d), hn::Rebind<std::uint16_t, F32>(), &p->bits);
}
HWY_INLINE void stream(VecF32 v, F32 d, BFloat16* p) {
  hn::Stream(to_bfloat_bits(v, d), hn::Rebind<std::uint16_t, F32>(), &p->bits);
}

}  // namespace detail

/// Elements p[0 ...]; lanes outside the row are `pad`.
template <typename T>
HWY_INLINE VecF32 load(F32 d, const T* p, Whole, float /*pad*/ = 0) {
  return detail::load(d, p);
}
template <typename T>
HWY_INLINE VecF32 load(F32 d, const T* p, Part part, float pad = 0) {
  HWY_ALIGN float lanes[kMaxLanes];
  hn::Store(hn::Set(d, pad), d, lanes);
  for (std::size_t i = 0; i < part.count; ++i) lanes[i] = static_cast<float>(p[i]);
  return hn::Load(d, lanes);
}

/// Writes the lanes inside the row.
template <typename T>
HWY_INLINE void store(VecF32 v, F32 d, T* p, Whole) {
  detail::store(v, d, p);
}
template <typename T>
HWY_INLINE void store(VecF32 v, F32 d, T* p, Part part) {
  HWY_ALIGN float lanes[kMaxLanes];
  hn::Store(v, d, lanes);
  for (std::size_t i = 0; i < part.count; ++i) p[i] = static_cast<T>(lanes[i]);
}

/// The same; with kStream past the caches, for outputs larger than them. Then p must be aligned to
/// the vector, and the thread calls hwy::FlushStream() when it is done.
template <bool kStream, typename T, class P>
HWY_INLINE void store_or_stream(VecF32 v, F32 d, T* p, P part) {
  if constexpr (kStream && std::is_same_v<P, Whole>) {
    detail::stream(v, d, p);
  } else {
    store(v, d, p, part);
  }
}

/// Asks for the next row, element by element, while this one is computed: the first pass over a row
/// is all memory, the others all arithmetic, and hardware prefetchers stop at page boundaries.
template <typename T>
struct Prefetcher {
  const T* next;
  HWY_INLINE void operator()(std::size_t i) const { hwy::Prefetch(next + i); }
};

/// Calls fn(i, Whole or Part) for the vectors of a row of n elements.
template <class Fn>
HWY_INLINE void for_each_vector(F32 d, std::size_t n, Fn&& fn) {
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) fn(i, Whole{});
  if (i < n) fn(i, Part{n - i});
}

/// Folds a row into one vector: acc = fn(i, part, acc), in four accumulators that `combine` joins.
/// Lanes outside the row must leave acc as it is, which the pad of load() sees to.
template <class Fn, class Combine>
HWY_INLINE VecF32 fold_row(F32 d, std::size_t n, VecF32 init, Fn&& fn, Combine&& combine) {
  const std::size_t lanes = hn::Lanes(d);
  VecF32 a0 = init, a1 = init, a2 = init, a3 = init;
  std::size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a0 = fn(i, Whole{}, a0);
    a1 = fn(i + lanes, Whole{}, a1);
    a2 = fn(i + 2 * lanes, Whole{}, a2);
    a3 = fn(i + 3 * lanes, Whole{}, a3);
  }
  for (; i + lanes <= n; i += lanes) a0 = fn(i, Whole{}, a0);
  if (i < n) a1 = fn(i, Part{n - i}, a1);
  return combine(combine(a0, a1), combine(a2, a3));
}

/// The sum over a row of what fn adds to its accumulator.
template <class Fn>
HWY_INLINE float sum_row(F32 d, std::size_t n, Fn&& fn) {
  const auto add = [](VecF32 a, VecF32 b) HWY_ATTR { return hn::Add(a, b); };
  return hn::GetLane(hn::SumOfLanes(d, fold_row(d, n, hn::Zero(d), fn, add)));
}

}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // METAL_CANDLE_BACKEND_CPU_FLOAT_IO_INL_H_
