// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Vectors of f32 transposed four by four, for packing and for sums of several vectors at once.
#if defined(METAL_CANDLE_BACKEND_CPU_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef METAL_CANDLE_BACKEND_CPU_TRANSPOSE_INL_H_
#undef METAL_CANDLE_BACKEND_CPU_TRANSPOSE_INL_H_
#else
#define METAL_CANDLE_BACKEND_CPU_TRANSPOSE_INL_H_
#endif

#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
/// Four vectors of four lanes (in each 128-bit block) transposed: lane j of vector i goes to lane i
/// of vector j.
HWY_INLINE void TransposeBlocks(F32 d, VecF32& v0, VecF32& v1, VecF32& v2, VecF32& v3) {
  const hn::RepartitionToWide<hn::RebindToUnsigned<F32>> dw;
  const auto t0 = hn::BitCast(dw, hn::InterleaveLower(d, v0, v1));
  const auto t1 = hn::BitCast(dw, hn::InterleaveLower(d, v2, v3));
  const auto t2 = hn::BitCast(dw, hn::InterleaveUpper(d, v0, v1));
  const auto t3 = hn::BitCast(dw, hn::InterleaveUpper(d, v2, v3));
  v0 = hn::BitCast(d, hn::InterleaveLower(dw, t0, t1));
  v1 = hn::BitCast(d, hn::InterleaveUpper(dw, t0, t1));
  v2 = hn::BitCast(d, hn::InterleaveLower(dw, t2, t3));
  v3 = hn::BitCast(d, hn::InterleaveUpper(dw, t2, t3));
}

/// The 128-bit blocks of v added up.
template <class D>
HWY_INLINE auto SumOfBlocks(D d, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return SumOfBlocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}
#endif

}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // METAL_CANDLE_BACKEND_CPU_TRANSPOSE_INL_H_
