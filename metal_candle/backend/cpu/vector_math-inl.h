// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// f32 transcendental functions on Highway vectors. Each says its largest error in units in the last
// place, as measured against double precision by tests/backend/vector_math_test.cpp, which fails
// when one is exceeded. Infinities, NaN, denormals and signed zeros are handled as in C unless said
// otherwise. D is a full vector of floats (hwy::HWY_NAMESPACE::ScalableTag<float>).

// Per-target include guard.
#if defined(METAL_CANDLE_BACKEND_CPU_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef METAL_CANDLE_BACKEND_CPU_VECTOR_MATH_INL_H_
#undef METAL_CANDLE_BACKEND_CPU_VECTOR_MATH_INL_H_
#else
#define METAL_CANDLE_BACKEND_CPU_VECTOR_MATH_INL_H_
#endif

#include <cmath>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

namespace math_detail {

template <class D>
using IntTag = hn::RebindToSigned<D>;

// c0 + c1 x + c2 x^2 + ... (Horner; a chain of fused multiply-adds, one per coefficient).
template <class D, class V>
HWY_INLINE V Polynomial(D d, V, float c) {
  return hn::Set(d, c);
}
template <class D, class V, typename... Cs>
HWY_INLINE V Polynomial(D d, V x, float c0, float c1, Cs... cs) {
  return hn::MulAdd(Polynomial(d, x, c1, cs...), x, hn::Set(d, c0));
}

// Limits x to [lo, hi] and lets NaN through: x comes second to Min and Max because x86 returns the
// second operand when one is NaN. The scalar target has other rules.
template <class D, class V>
HWY_INLINE V Clamp(D d, V x, float lo, float hi) {
#if HWY_TARGET == HWY_SCALAR
  x = hn::IfThenElse(hn::Gt(x, hn::Set(d, hi)), hn::Set(d, hi), x);
  return hn::IfThenElse(hn::Lt(x, hn::Set(d, lo)), hn::Set(d, lo), x);
#else
  return hn::Max(hn::Set(d, lo), hn::Min(hn::Set(d, hi), x));
#endif
}

// x = k ln 2 + r with |r| <= ln(2) / 2. `biased` holds k + 127 in its low bits: adding 1.5 * 2^23
// makes the rounding of floating addition round to an integer there.
template <class D, class V>
struct ExpReduction {
  V k, r;
  hn::Vec<IntTag<D>> biased;
};
template <class D, class V>
HWY_INLINE ExpReduction<D, V> ReduceExp(D d, V x) {
  const IntTag<D> di;
  const V magic = hn::Set(d, 12582912.0f + 127.0f);
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), magic);
  const V k = hn::Sub(shifted, magic);
  // ln 2 in two parts; the first has few enough bits that its product with k is exact.
  V r = hn::NegMulAdd(k, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(k, hn::Set(d, -2.12194440e-4f), r);
  return {k, r, hn::BitCast(di, shifted)};
}

// exp(r) - 1 for |r| <= ln(2) / 2 (coefficients: Cephes expf).
template <class D, class V>
HWY_INLINE V ReducedExpm1(D d, V r) {
  const V p = Polynomial(d, r, 5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f,
                         8.3334519073e-3f, 1.3981999507e-3f, 1.9875691500e-4f);
  return hn::MulAdd(p, hn::Mul(r, r), r);
}

// exp(r) for |r| <= ln(2) / 2: fitted to the least relative error, 3e-9, with both leading
// coefficients 1.
template <class D, class V>
HWY_INLINE V ReducedExp(D d, V r) {
  return Polynomial(d, r, 1.0f, 1.0f, 0.4999999403953552f, 0.1666652113199234f,
                    0.04166838899254799f, 0.0083687175065279f, 0.001381459878757596f);
}

// A positive, finite x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), and log(1 + f) = f + tail.
template <class V>
struct LogParts {
  V e, f, tail;
};
template <class D, class V>
HWY_INLINE LogParts<V> SplitLog(D d, V x) {
  const IntTag<D> di;
  const auto denormal = hn::Lt(x, hn::Set(d, 0x1p-126f));
  const V scaled = hn::IfThenElse(denormal, hn::Mul(x, hn::Set(d, 0x1p25f)), x);
  const auto bits = hn::BitCast(di, scaled);
  const auto exponent = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(di, 0x3f3504f3)));  // sqrt(1/2)
  V e = hn::ConvertTo(d, exponent);
  e = hn::Sub(e, hn::IfThenElseZero(denormal, hn::Set(d, 25.0f)));
  const V m = hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(exponent)));
  const V f = hn::Sub(m, hn::Set(d, 1.0f));
  // Coefficients: Cephes logf.
  const V p = Polynomial(d, f, 3.3333331174e-1f, -2.4999993993e-1f, 2.0000714765e-1f,
                         -1.6668057665e-1f, 1.4249322787e-1f, -1.2420140846e-1f, 1.1676998740e-1f,
                         -1.1514610310e-1f, 7.0376836292e-2f);
  const V f2 = hn::Mul(f, f);
  return {e, f, hn::MulAdd(hn::Mul(f, f2), p, hn::Mul(f2, hn::Set(d, -0.5f)))};
}

// A logarithm's values outside of (0, infinity).
template <class D, class V>
HWY_INLINE V LogSpecialCases(D d, V x, V log) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const V outside = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), hn::Set(d, -kInfinity),
                                   hn::Set(d, std::numeric_limits<float>::quiet_NaN()));
  log = hn::IfThenElse(hn::Gt(x, hn::Zero(d)), log, outside);
  return hn::IfThenElse(hn::Eq(x, hn::Set(d, kInfinity)), x, log);
}

}  // namespace math_detail

/// e^x, 1.2 ulp.
template <class D, class V>
HWY_INLINE V Exp(D d, V x) {
  const math_detail::IntTag<D> di;
  // e^-104 rounds to 0 and e^89 to infinity.
  const auto reduced = math_detail::ReduceExp(d, math_detail::Clamp(d, x, -104.0f, 89.0f));
  const V p = math_detail::ReducedExp(d, reduced.r);
  // 2^k in two factors, for k below -126 and for 128. The constant is the magic number's bits.
  const auto k = hn::Sub(reduced.biased, hn::Set(di, 0x4b400000 + 127));
  const auto half = hn::ShiftRight<1>(k);
  const auto bias = hn::Set(di, 127);
  const V scale1 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const V scale2 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(k, half), bias)));
  return hn::Mul(hn::Mul(p, scale1), scale2);
}

/// e^x, 1.2 ulp, by fewer instructions than Exp(): below 2^-126.5 it gives 0, above 2^127.5
/// infinity. For sums of exponentials of non-positive numbers.
template <class D, class V>
HWY_INLINE V ExpFlush(D d, V x) {
  const auto reduced = math_detail::ReduceExp(d, math_detail::Clamp(d, x, -88.0f, 89.0f));
  const V p = math_detail::ReducedExp(d, reduced.r);
  return hn::Mul(p, hn::BitCast(d, hn::ShiftLeft<23>(reduced.biased)));
}

/// e^x - 1, 2 ulp.
template <class D, class V>
HWY_INLINE V Expm1(D d, V x) {
  const math_detail::IntTag<D> di;
  const auto reduced = math_detail::ReduceExp(d, math_detail::Clamp(d, x, -18.0f, 89.0f));
  const V em = math_detail::ReducedExpm1(d, reduced.r);
  // 2^k em + (2^k - 1), halved so that k = 128 does not overflow too early.
  const V half_scale = hn::BitCast(d, hn::ShiftLeft<23>(hn::Sub(reduced.biased, hn::Set(di, 1))));
  const V half = hn::MulAdd(half_scale, em, hn::Sub(half_scale, hn::Set(d, 0.5f)));
  // Where k = 0 halving would lose a denormal's last bit and the sign of a zero.
  return hn::IfThenElse(hn::Eq(reduced.k, hn::Zero(d)),
                        hn::IfThenElse(hn::Eq(x, hn::Zero(d)), x, em), hn::Add(half, half));
}

/// Natural logarithm, 1 ulp.
template <class D, class V>
HWY_INLINE V Log(D d, V x) {
  const auto parts = math_detail::SplitLog(d, x);
  const V tail = hn::MulAdd(parts.e, hn::Set(d, -2.12194440e-4f), parts.tail);
  const V log = hn::MulAdd(parts.e, hn::Set(d, 0.693359375f), hn::Add(parts.f, tail));
  return math_detail::LogSpecialCases(d, x, log);
}

/// log(1 + x), 2 ulp.
template <class D, class V>
HWY_INLINE V Log1p(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  const V u = hn::Add(x, one);
  const V log = Log(d, u);
  // What rounding 1 + x lost, to first order.
  const V lost = hn::Div(hn::Sub(x, hn::Sub(u, one)), u);
  const auto exact =
      hn::Or(hn::Eq(u, hn::Zero(d)), hn::Eq(u, hn::Set(d, std::numeric_limits<float>::infinity())));
  const V result = hn::IfThenElse(exact, log, hn::Add(log, lost));
  return hn::IfThenElse(hn::Eq(x, hn::Zero(d)), x, result);
}

/// Base-2 logarithm, 2 ulp; exact for powers of two.
template <class D, class V>
HWY_INLINE V Log2(D d, V x) {
  const auto [e, f, tail] = math_detail::SplitLog(d, x);
  const V c = hn::Set(d, 0.44269504088896340736f);  // log2(e) - 1
  V z = hn::MulAdd(f, c, hn::Mul(tail, c));
  z = hn::Add(hn::Add(z, tail), f);
  return math_detail::LogSpecialCases(d, x, hn::Add(z, e));
}

/// Base-10 logarithm, 2 ulp.
template <class D, class V>
HWY_INLINE V Log10(D d, V x) {
  const auto [e, f, tail] = math_detail::SplitLog(d, x);
  // log10(e) and log10(2), each in two parts (Cephes log10f).
  V z = hn::Mul(hn::Add(f, tail), hn::Set(d, 7.00731903251827651129e-4f));
  z = hn::MulAdd(tail, hn::Set(d, 4.3359375e-1f), z);
  z = hn::MulAdd(e, hn::Set(d, 2.48745663981195213739e-4f), z);
  z = hn::MulAdd(f, hn::Set(d, 4.3359375e-1f), z);
  z = hn::MulAdd(e, hn::Set(d, 3.0078125e-1f), z);
  return math_detail::LogSpecialCases(d, x, z);
}

/// Hyperbolic tangent, 6 ulp: a rational approximation fitted to the least relative error on
/// [0, 9.01], beyond which f32 tanh is 1. The argument is limited to a point where the quotient
/// rounds to at least 1 with and without fused multiply-adds, so that large ones give exactly 1.
template <class D, class V>
HWY_INLINE V Tanh(D d, V x) {
  const V c = math_detail::Clamp(d, x, -9.04f, 9.04f);
  const V t = hn::Mul(c, c);
  const V p = math_detail::Polynomial(d, t, 1.0f, 0.13680359721183777f, 0.0038688844069838524f,
                                      2.8018699595122598e-05f, 3.061210307464535e-08f,
                                      -1.2223605808103777e-11f);
  const V q = math_detail::Polynomial(d, t, 1.0f, 0.4701369106769562f, 0.027247875928878784f,
                                      0.0003939612943213433f, 1.288152589040692e-06f);
  return math_detail::Clamp(d, hn::Div(hn::Mul(c, p), q), -1.0f, 1.0f);
}

/// Error function, 7 ulp: a rational approximation fitted to the least relative error on
/// [0, 3.92], beyond which f32 erf is 1. Limited as in Tanh().
template <class D, class V>
HWY_INLINE V Erf(D d, V x) {
  const V c = math_detail::Clamp(d, x, -3.94f, 3.94f);
  const V t = hn::Mul(c, c);
  const V p = math_detail::Polynomial(d, t, 1.1283791065216064f, 0.190397247672081f,
                                      0.05274731665849686f, 0.00376517279073596f,
                                      0.00028486482915468514f, 2.050054263236234e-06f);
  const V q = math_detail::Polynomial(d, t, 1.0f, 0.5020679235458374f, 0.11410512775182724f,
                                      0.014968330040574074f, 0.001162413158454001f,
                                      3.8090438465587795e-05f);
  return math_detail::Clamp(d, hn::Div(hn::Mul(c, p), q), -1.0f, 1.0f);
}

/// Inverse error function, 8 ulp (M. Giles, "Approximating the erfinv function", 2010).
template <class D, class V>
HWY_INLINE V ErfInv(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  const V w = hn::Neg(Log(d, hn::Mul(hn::Sub(one, x), hn::Add(one, x))));
  const V central = math_detail::Polynomial(
      d, hn::Sub(w, hn::Set(d, 2.5f)), 1.50140941f, 0.246640727f, -0.00417768164f, -0.00125372503f,
      0.00021858087f, -4.39150654e-06f, -3.5233877e-06f, 3.43273939e-07f, 2.81022636e-08f);
  const V tail =
      math_detail::Polynomial(d, hn::Sub(hn::Sqrt(w), hn::Set(d, 3.0f)), 2.83297682f, 1.00167406f,
                              0.00943887047f, -0.0076224613f, 0.00573950773f, -0.00367342844f,
                              0.00134934322f, 0.000100950558f, -0.000200214257f);
  const V p = hn::IfThenElse(hn::Lt(w, hn::Set(d, 5.0f)), central, tail);
  const V infinity = hn::Set(d, std::numeric_limits<float>::infinity());
  const V result = hn::Mul(x, p);
  return hn::IfThenElse(hn::Eq(hn::Abs(x), one), hn::CopySign(infinity, x), result);
}

/// 1 / (1 + e^-x), 3 ulp; results below 2^-126 may be 0.
template <class D, class V>
HWY_INLINE V Sigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, ExpFlush(d, hn::Neg(x))));
}

/// x / (1 + e^-x), 3 ulp; magnitudes below 2^-119 may be 0 where x is negative.
template <class D, class V>
HWY_INLINE V Silu(D d, V x) {
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), ExpFlush(d, hn::Neg(x))));
}

/// x Phi(x) = x (1 + erf(x / sqrt 2)) / 2: error at most 1 ulp + 2^-22 |x|, and 2^-18 of the result
/// for x > -8, as nothing cancels where x is negative. NaN at minus infinity, as the formula gives.
///
/// With a = |x|, Phi(-a) is exp(-a^2 / 2) times a rational function, here fitted to the least
/// relative error (1.4e-7) on [0, 14]. The exponential is 2^f for |f| <= 1/2 (fitted, 1e-7) times a
/// power of two that is 0 from a = 13.28 on, where f32 holds next to nothing of the result.
template <class D, class V>
HWY_INLINE V Gelu(D d, V x) {
  const math_detail::IntTag<D> di;
  const V a = hn::Min(hn::Abs(x), hn::Set(d, 13.28f));
  const V a2 = hn::Mul(a, a);
  // As in ReduceExp(). Rounding a^2 costs more than rounding the constant does.
  const V exponent = hn::Set(d, -0.72134752044448170f);  // -log2(e) / 2
  const V magic = hn::Set(d, 12582912.0f + 127.0f);
  const V shifted = hn::MulAdd(a2, exponent, magic);
  const V f = hn::MulSub(a2, exponent, hn::Sub(shifted, magic));
  const V scale = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  const V power =
      math_detail::Polynomial(d, f, 1.0f, 0.6931470036506653f, 0.24022242426872253f,
                              0.05550733953714371f, 0.009671534411609173f, 0.001326470053754747f);
  const V p =
      math_detail::Polynomial(d, a, 0.4999999403953552f, 0.3417089879512787f, 0.1085795909166336f,
                              0.01457750704139471f, 2.1156391483145853e-07f);
  const V q = math_detail::Polynomial(d, a, 1.0f, 1.481294870376587f, 0.8991274833679199f,
                                      0.2716436982154846f, 0.03656608983874321f);
  const V tail = hn::Div(hn::Mul(hn::Mul(power, scale), p), q);  // Phi(-a)
  return hn::Mul(x, hn::IfNegativeThenElse(x, tail, hn::Sub(hn::Set(d, 1.0f), tail)));
}

/// x (1 + tanh(u)) / 2 = x / (1 + e^-2u) with u = sqrt(2 / pi) (x + 0.044715 x^3); absolute error
/// at most 2^-22 |x|.
template <class D, class V>
HWY_INLINE V GeluTanh(D d, V x) {
  const V cubic = hn::MulAdd(hn::Mul(x, x), hn::Set(d, -0.07135481627260025f),
                             hn::Set(d, -1.5957691216057308f));
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), ExpFlush(d, hn::Mul(x, cubic))));
}

/// log(e^a + e^b) without overflow; absolute error at most 2 ulp of the result or 2^-23.
template <class D, class V>
HWY_INLINE V LogAddExp(D d, V a, V b) {
  const V distance = hn::Abs(hn::Sub(a, b));
  const V sum = hn::Add(hn::Max(a, b), Log1p(d, Exp(d, hn::Neg(distance))));
  // Also for two equal infinities, whose difference is NaN.
  return hn::IfThenElse(hn::Eq(a, b), hn::Add(a, hn::Set(d, 0.693147180559945309f)), sum);
}

namespace math_detail {

// sin and cos of doubles up to 2^20 to about 2^-33 (FreeBSD's __sindf and __cosdf).
template <class D, class V>
HWY_INLINE void SinCosDouble(D d, V x, V& sin, V& cos) {
  const hn::RebindToUnsigned<D> du;
  const V magic = hn::Set(d, 6755399441055744.0);  // 1.5 * 2^52: as in ReduceExp().
  const V shifted = hn::MulAdd(x, hn::Set(d, 0.63661977236758134308), magic);
  const V k = hn::Sub(shifted, magic);
  V r = hn::NegMulAdd(k, hn::Set(d, 1.57079632673412561417e+00), x);  // 33 bits of pi / 2.
  r = hn::NegMulAdd(k, hn::Set(d, 6.07710050650619224932e-11), r);    // The next 53.
  const V z = hn::Mul(r, r);
  V s = hn::MulAdd(z, hn::Set(d, 0.0000027183114939898219064),
                   hn::Set(d, -0.000198393348360966317347));
  s = hn::MulAdd(s, z, hn::Set(d, 0.0083333293858894631756));
  s = hn::MulAdd(s, z, hn::Set(d, -0.166666666416265235595));
  s = hn::Mul(hn::MulAdd(s, z, hn::Set(d, 1.0)), r);
  V c = hn::MulAdd(z, hn::Set(d, 0.0000243904487962774090654),
                   hn::Set(d, -0.00138867637746099294692));
  c = hn::MulAdd(c, z, hn::Set(d, 0.0416666233237390631894));
  c = hn::MulAdd(c, z, hn::Set(d, -0.499999997251031003120));
  c = hn::MulAdd(c, z, hn::Set(d, 1.0));
  // Quadrant: odd ones swap the two, and bit 1 gives the sign.
  const auto quadrant = hn::BitCast(du, shifted);
  const auto one = hn::Set(du, 1);
  const auto odd = hn::MaskFromVec(hn::BitCast(d, hn::Sub(hn::Zero(du), hn::And(quadrant, one))));
  const auto two = hn::Set(du, 2);
  const auto sin_sign = hn::ShiftLeft<62>(hn::And(quadrant, two));
  const auto cos_sign = hn::ShiftLeft<62>(hn::And(hn::Add(quadrant, one), two));
  sin = hn::Xor(hn::IfThenElse(odd, c, s), hn::BitCast(d, sin_sign));
  cos = hn::Xor(hn::IfThenElse(odd, s, c), hn::BitCast(d, cos_sign));
}

// Applies scalar() to each element.
template <class D, class V>
HWY_INLINE V ApplyScalar(D d, V x, float (*scalar)(float)) {
  HWY_ALIGN float lanes[hn::MaxLanes(D())];
  hn::Store(x, d, lanes);
  for (float& lane : lanes) lane = scalar(lane);
  return hn::Load(d, lanes);
}

// Applies fn(sin, cos) in double to both halves of x, or scalar() where an element is too large.
template <class D, class V, class Fn>
HWY_INLINE V ApplyToSinCos(D d, V x, [[maybe_unused]] Fn fn, float (*scalar)(float)) {
#if HWY_TARGET == HWY_SCALAR
  return ApplyScalar(d, x, scalar);
#else
  if (HWY_UNLIKELY(!hn::AllTrue(d, hn::Le(hn::Abs(x), hn::Set(d, 0x1p20f))))) {
    return ApplyScalar(d, x, scalar);
  }
  const hn::Half<D> dh;
  const hn::Rebind<double, decltype(dh)> dw;
  auto sin = hn::Zero(dw);
  auto cos = sin;
  SinCosDouble(dw, hn::PromoteTo(dw, hn::LowerHalf(dh, x)), sin, cos);
  const auto lower = hn::DemoteTo(dh, fn(sin, cos));
  SinCosDouble(dw, hn::PromoteTo(dw, hn::UpperHalf(dh, x)), sin, cos);
  const auto upper = hn::DemoteTo(dh, fn(sin, cos));
  return hn::Combine(d, upper, lower);
#endif
}

inline float ScalarSin(float x) { return std::sin(x); }
inline float ScalarCos(float x) { return std::cos(x); }
inline float ScalarTan(float x) { return std::tan(x); }

}  // namespace math_detail

/// Sine, 1 ulp for every argument.
template <class D, class V>
HWY_INLINE V Sin(D d, V x) {
  return math_detail::ApplyToSinCos(
      d, x, [](auto sin, auto) HWY_ATTR { return sin; }, math_detail::ScalarSin);
}

/// Cosine, 1 ulp for every argument.
template <class D, class V>
HWY_INLINE V Cos(D d, V x) {
  return math_detail::ApplyToSinCos(
      d, x, [](auto, auto cos) HWY_ATTR { return cos; }, math_detail::ScalarCos);
}

/// Tangent, 2 ulp for every argument.
template <class D, class V>
HWY_INLINE V Tan(D d, V x) {
  return math_detail::ApplyToSinCos(
      d, x, [](auto sin, auto cos) HWY_ATTR { return hn::Div(sin, cos); }, math_detail::ScalarTan);
}

}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // METAL_CANDLE_BACKEND_CPU_VECTOR_MATH_INL_H_
