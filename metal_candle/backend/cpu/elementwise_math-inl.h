// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the steps and the chains of elementwise programs have in common.
#if defined(METAL_CANDLE_BACKEND_CPU_ELEMENTWISE_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef METAL_CANDLE_BACKEND_CPU_ELEMENTWISE_MATH_INL_H_
#undef METAL_CANDLE_BACKEND_CPU_ELEMENTWISE_MATH_INL_H_
#else
#define METAL_CANDLE_BACKEND_CPU_ELEMENTWISE_MATH_INL_H_
#endif

#include <bit>
#include <limits>

#include "hwy/highway.h"
#include "metal_candle/backend/cpu/vector_math-inl.h"
#include "metal_candle/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {

using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using DB = hn::Rebind<std::uint8_t, DF>;   // A bool for each float.
using DH = hn::Rebind<std::uint16_t, DF>;  // A half for each float.
using VF = hn::Vec<DF>;

HWY_INLINE VF One() { return hn::Set(DF(), 1.0f); }
HWY_INLINE VF Infinity() { return hn::Set(DF(), std::numeric_limits<float>::infinity()); }

HWY_INLINE VF Sign(VF x) {
  const auto keep = hn::Or(hn::IsNaN(x), hn::Eq(x, hn::Zero(DF())));
  return hn::IfThenElse(keep, x, hn::CopySign(One(), x));
}
// NaN always wins. On vectors Highway's Max and Min give the second operand where either is NaN, or
// NaN.
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE VF Maximum(VF x, VF y) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenElse(hn::IsNaN(y), y, hn::Max(y, x)));
}
HWY_INLINE VF Minimum(VF x, VF y) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenElse(hn::IsNaN(y), y, hn::Min(y, x)));
}
#else
HWY_INLINE VF Maximum(VF x, VF y) { return hn::IfThenElse(hn::IsNaN(y), y, hn::Max(y, x)); }
HWY_INLINE VF Minimum(VF x, VF y) { return hn::IfThenElse(hn::IsNaN(y), y, hn::Min(y, x)); }
#endif
HWY_INLINE VF Relu(VF x) { return hn::IfThenElse(hn::Lt(x, hn::Zero(DF())), hn::Zero(DF()), x); }
// Not Ne(), which is false for NaN on x86.
HWY_INLINE hn::Mask<DF> NotEqual(VF x, VF y) { return hn::Not(hn::Eq(x, y)); }
HWY_INLINE hn::Mask<DF> Truth(VF x) { return NotEqual(x, hn::Zero(DF())); }

// ---- Half precision -----------------------------------------------------------------------------

// bf16 bits of x, in the low half of each lane: to nearest even, NaN kept NaN.
HWY_INLINE hn::Vec<DI> RoundToBF16(VF x) {
  const hn::RebindToUnsigned<DF> du;
  const auto bits = hn::BitCast(du, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff)));
  const auto quiet = hn::Or(bits, hn::Set(du, 0x400000));
  const auto nan = hn::VecFromMask(du, hn::RebindMask(du, hn::IsNaN(x)));
  return hn::BitCast(DI(), hn::ShiftRight<16>(hn::IfVecThenElse(nan, quiet, rounded)));
}
HWY_INLINE VF FromBF16Bits(hn::Vec<DI> bits) { return hn::BitCast(DF(), hn::ShiftLeft<16>(bits)); }
HWY_INLINE VF LoadBF16(const std::uint16_t* p) {
  return FromBF16Bits(hn::PromoteTo(DI(), hn::LoadU(DH(), p)));
}
HWY_INLINE void StoreBF16(VF v, std::uint16_t* p) {
  hn::StoreU(hn::DemoteTo(DH(), RoundToBF16(v)), DH(), p);
}
HWY_INLINE VF NearestBF16(VF v) { return FromBF16Bits(RoundToBF16(v)); }

#if HWY_TARGET == HWY_SCALAR
// Highway's own conversion truncates where the processor has none.
HWY_INLINE VF LoadF16(const std::uint16_t* p) {
  return hn::Set(DF(), static_cast<float>(std::bit_cast<Float16>(*p)));
}
HWY_INLINE void StoreF16(VF v, std::uint16_t* p) { *p = Float16(hn::GetLane(v)).bits; }
#else
HWY_INLINE VF LoadF16(const std::uint16_t* p) {
  const hn::Rebind<hwy::float16_t, DF> dh;
  return hn::PromoteTo(DF(), hn::BitCast(dh, hn::LoadU(DH(), p)));
}
HWY_INLINE void StoreF16(VF v, std::uint16_t* p) {
  const hn::Rebind<hwy::float16_t, DF> dh;
  hn::StoreU(hn::BitCast(DH(), hn::DemoteTo(dh, v)), DH(), p);
}
#endif
HWY_INLINE VF NearestF16(VF v) {
  HWY_ALIGN std::uint16_t half[hn::MaxLanes(DF())];
  StoreF16(v, half);
  return LoadF16(half);
}

}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
