// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The f32 steps of elementwise programs, with Highway.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/elementwise_float.cpp"
#include "hwy/foreach_target.h"
//
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/elementwise_math-inl.h"
#include "metal_candle/backend/cpu/elementwise_steps.h"
#include "metal_candle/backend/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {

// ---- Loops --------------------------------------------------------------------------------------

// Loads and stores of whole vectors. Bool is stored as 0 and 1.
HWY_INLINE VF LoadValue(const float* p) { return hn::LoadU(DF(), p); }
HWY_INLINE hn::Mask<DF> LoadValue(const bool* p) {
  const auto bytes = hn::LoadU(DB(), reinterpret_cast<const std::uint8_t*>(p));
  const auto wide = hn::PromoteTo(DI(), bytes);
  return hn::MaskFromVec(hn::BitCast(DF(), hn::VecFromMask(DI(), hn::Ne(wide, hn::Zero(DI())))));
}
HWY_INLINE void StoreValue(VF v, float* p) { hn::StoreU(v, DF(), p); }
HWY_INLINE void StoreMask(hn::Mask<DF> m, bool* p) {
  const auto ones = hn::And(hn::BitCast(DI(), hn::VecFromMask(DF(), m)), hn::Set(DI(), 1));
  hn::StoreU(hn::DemoteTo(DB(), ones), DB(), reinterpret_cast<std::uint8_t*>(p));
}
template <typename V>
HWY_INLINE void StoreValue(V m, bool* p) {
  StoreMask(m, p);
}

// Applies fn, from vectors to a vector, to arrays of the types In to one of type Out. The last,
// partial vector goes through buffers, so that nothing beyond the arrays is touched.
template <typename Out, typename... In, typename Fn, std::size_t... I>
HWY_INLINE void ForEachVector(const StepArguments& a, Fn fn, std::index_sequence<I...>) {
  const std::size_t lanes = hn::Lanes(DF());
  auto* out = static_cast<Out*>(a.out);
  std::size_t i = 0;
  for (; i + lanes <= a.count; i += lanes) {
    StoreValue(fn(LoadValue(static_cast<const In*>(a.in[I]) + i)...), out + i);
  }
  const std::size_t rest = a.count - i;
  if (rest == 0) return;
  constexpr std::size_t kLanes = hn::MaxLanes(DF());
  HWY_ALIGN unsigned char in_buffer[sizeof...(In)][kLanes * sizeof(float)] = {};
  HWY_ALIGN Out out_buffer[kLanes];
  (std::memcpy(in_buffer[I], static_cast<const In*>(a.in[I]) + i, rest * sizeof(In)), ...);
  StoreValue(fn(LoadValue(reinterpret_cast<const In*>(in_buffer[I]))...), out_buffer);
  std::memcpy(out + i, out_buffer, rest * sizeof(Out));
}
template <typename Out, typename... In, typename Fn>
HWY_INLINE void ForEach(const StepArguments& a, Fn fn) {
  ForEachVector<Out, In...>(a, fn, std::index_sequence_for<In...>());
}

#define UNARY(Out, expression)                   \
  [](const StepArguments& a) HWY_ATTR {          \
    ForEach<Out, float>(a, [](auto x) HWY_ATTR { \
      [[maybe_unused]] const DF d;               \
      return expression;                         \
    });                                          \
  }
#define BINARY(Out, expression)                                 \
  [](const StepArguments& a) HWY_ATTR {                         \
    ForEach<Out, float, float>(a, [](auto x, auto y) HWY_ATTR { \
      [[maybe_unused]] const DF d;                              \
      return expression;                                        \
    });                                                         \
  }
// Functions too rare to be worth a vector implementation: libm, element by element.
#define SCALAR_UNARY(function)                                          \
  [](const StepArguments& a) {                                          \
    const auto* in = static_cast<const float*>(a.in[0]);                \
    auto* out = static_cast<float*>(a.out);                             \
    for (std::size_t i = 0; i < a.count; ++i) out[i] = function(in[i]); \
  }
#define SCALAR_BINARY(function)                                              \
  [](const StepArguments& a) {                                               \
    const auto* x = static_cast<const float*>(a.in[0]);                      \
    const auto* y = static_cast<const float*>(a.in[1]);                      \
    auto* out = static_cast<float*>(a.out);                                  \
    for (std::size_t i = 0; i < a.count; ++i) out[i] = function(x[i], y[i]); \
  }

// ---- Functions ----------------------------------------------------------------------------------

// The quotient in double, so that its rounding does not carry it over an integer.
inline float FloorDivide(float x, float y) {
  return static_cast<float>(std::floor(static_cast<double>(x) / static_cast<double>(y)));
}
// The sign of the divisor, as in Python.
inline float Remainder(float x, float y) {
  const float r = std::fmod(x, y);
  if (r == 0) return std::copysign(0.0f, y);
  return (r < 0) != (y < 0) ? r + y : r;
}

// ---- Half precision -----------------------------------------------------------------------------

// Arrays with whole vectors first, then the rest through a buffer.
template <typename In, typename Out, typename Fn>
HWY_INLINE void Convert(const StepArguments& a, Fn fn) {
  const std::size_t lanes = hn::Lanes(DF());
  const auto* in = static_cast<const In*>(a.in[0]);
  auto* out = static_cast<Out*>(a.out);
  std::size_t i = 0;
  for (; i + lanes <= a.count; i += lanes) fn(in + i, out + i);
  if (i == a.count) return;
  HWY_ALIGN In in_buffer[hn::MaxLanes(DF())] = {};
  HWY_ALIGN Out out_buffer[hn::MaxLanes(DF())];
  std::memcpy(in_buffer, in + i, (a.count - i) * sizeof(In));
  fn(in_buffer, out_buffer);
  std::memcpy(out + i, out_buffer, (a.count - i) * sizeof(Out));
}

void FromF16(const StepArguments& a) {
  Convert<std::uint16_t, float>(
      a, [](const std::uint16_t* in, float* out) HWY_ATTR { hn::StoreU(LoadF16(in), DF(), out); });
}
void ToF16(const StepArguments& a) {
  Convert<float, std::uint16_t>(
      a, [](const float* in, std::uint16_t* out) HWY_ATTR { StoreF16(hn::LoadU(DF(), in), out); });
}
void RoundF16(const StepArguments& a) {
  Convert<float, float>(a, [](const float* in, float* out) HWY_ATTR {
    hn::StoreU(NearestF16(hn::LoadU(DF(), in)), DF(), out);
  });
}
void FromBF16(const StepArguments& a) {
  Convert<std::uint16_t, float>(
      a, [](const std::uint16_t* in, float* out) HWY_ATTR { hn::StoreU(LoadBF16(in), DF(), out); });
}
void ToBF16(const StepArguments& a) {
  Convert<float, std::uint16_t>(
      a, [](const float* in, std::uint16_t* out) HWY_ATTR { StoreBF16(hn::LoadU(DF(), in), out); });
}
void RoundBF16(const StepArguments& a) {
  Convert<float, float>(a, [](const float* in, float* out) HWY_ATTR {
    hn::StoreU(NearestBF16(hn::LoadU(DF(), in)), DF(), out);
  });
}

void SelectStep(const StepArguments& a) {
  ForEach<float, bool, float, float>(
      a, [](auto c, auto x, auto y) HWY_ATTR { return hn::IfThenElse(c, x, y); });
}
void SwiGluStep(const StepArguments& a) {
  ForEach<float, float, float>(
      a, [](auto gate, auto up) HWY_ATTR { return hn::Mul(Silu(DF(), gate), up); });
}

void StreamCopy(const void* from, void* to, std::size_t bytes) {
  const hn::ScalableTag<std::uint8_t> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto* in = static_cast<const std::uint8_t*>(from);
  auto* out = static_cast<std::uint8_t*>(to);
  const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(out) % lanes;
  std::size_t i = 0;
  if (misaligned != 0) {
    i = HWY_MIN(lanes - misaligned, bytes);
    std::memcpy(out, in, i);
  }
  for (; i + lanes <= bytes; i += lanes) hn::Stream(hn::LoadU(d, in + i), d, out + i);
  std::memcpy(out + i, in + i, bytes - i);
}

// ---- The table ----------------------------------------------------------------------------------

void SetUnary(FloatSteps& steps) {
  using K = UnaryKind;
  const auto set = [&](K kind, StepFn fn) { steps.unary[static_cast<int>(kind)] = fn; };
  set(K::kAbs, UNARY(float, hn::Abs(x)));
  set(K::kNegative, UNARY(float, hn::Neg(x)));
  set(K::kSign, UNARY(float, Sign(x)));
  set(K::kSquare, UNARY(float, hn::Mul(x, x)));
  set(K::kExp, UNARY(float, Exp(d, x)));
  set(K::kExpm1, UNARY(float, Expm1(d, x)));
  set(K::kLog, UNARY(float, Log(d, x)));
  set(K::kLog1p, UNARY(float, Log1p(d, x)));
  set(K::kLog2, UNARY(float, Log2(d, x)));
  set(K::kLog10, UNARY(float, Log10(d, x)));
  set(K::kSqrt, UNARY(float, hn::Sqrt(x)));
  set(K::kRsqrt, UNARY(float, hn::Div(One(), hn::Sqrt(x))));
  set(K::kReciprocal, UNARY(float, hn::Div(One(), x)));
  set(K::kSin, UNARY(float, Sin(d, x)));
  set(K::kCos, UNARY(float, Cos(d, x)));
  set(K::kTan, UNARY(float, Tan(d, x)));
  set(K::kAsin, SCALAR_UNARY(std::asin));
  set(K::kAcos, SCALAR_UNARY(std::acos));
  set(K::kAtan, SCALAR_UNARY(std::atan));
  set(K::kSinh, SCALAR_UNARY(std::sinh));
  set(K::kCosh, SCALAR_UNARY(std::cosh));
  set(K::kTanh, UNARY(float, Tanh(d, x)));
  set(K::kAsinh, SCALAR_UNARY(std::asinh));
  set(K::kAcosh, SCALAR_UNARY(std::acosh));
  set(K::kAtanh, SCALAR_UNARY(std::atanh));
  set(K::kErf, UNARY(float, Erf(d, x)));
  set(K::kErfInv, UNARY(float, ErfInv(d, x)));
  set(K::kFloor, UNARY(float, hn::Floor(x)));
  set(K::kCeil, UNARY(float, hn::Ceil(x)));
  set(K::kRound, UNARY(float, hn::Round(x)));
  set(K::kTrunc, UNARY(float, hn::Trunc(x)));
  set(K::kSigmoid, UNARY(float, Sigmoid(d, x)));
  set(K::kRelu, UNARY(float, Relu(x)));
  set(K::kGelu, UNARY(float, Gelu(d, x)));
  set(K::kGeluTanh, UNARY(float, GeluTanh(d, x)));
  set(K::kSilu, UNARY(float, Silu(d, x)));
  set(K::kIsNan, UNARY(bool, hn::IsNaN(x)));
  set(K::kIsInf, UNARY(bool, hn::Eq(hn::Abs(x), Infinity())));
  set(K::kIsFinite, UNARY(bool, hn::Lt(hn::Abs(x), Infinity())));
  set(K::kLogicalNot, UNARY(bool, hn::Eq(x, hn::Zero(d))));
}

void SetBinary(FloatSteps& steps) {
  using K = BinaryKind;
  const auto set = [&](K kind, StepFn fn) { steps.binary[static_cast<int>(kind)] = fn; };
  set(K::kAdd, BINARY(float, hn::Add(x, y)));
  set(K::kSubtract, BINARY(float, hn::Sub(x, y)));
  set(K::kMultiply, BINARY(float, hn::Mul(x, y)));
  set(K::kDivide, BINARY(float, hn::Div(x, y)));
  set(K::kFloorDivide, SCALAR_BINARY(FloorDivide));
  set(K::kRemainder, SCALAR_BINARY(Remainder));
  set(K::kPower, SCALAR_BINARY(std::pow));
  set(K::kMaximum, BINARY(float, Maximum(x, y)));
  set(K::kMinimum, BINARY(float, Minimum(x, y)));
  set(K::kAtan2, SCALAR_BINARY(std::atan2));
  set(K::kLogAddExp, BINARY(float, LogAddExp(d, x, y)));
  set(K::kHypot, SCALAR_BINARY(std::hypot));
  set(K::kCopysign, BINARY(float, hn::CopySign(x, y)));
  set(K::kEqual, BINARY(bool, hn::Eq(x, y)));
  set(K::kNotEqual, BINARY(bool, NotEqual(x, y)));
  set(K::kLess, BINARY(bool, hn::Lt(x, y)));
  set(K::kLessEqual, BINARY(bool, hn::Le(x, y)));
  set(K::kGreater, BINARY(bool, hn::Gt(x, y)));
  set(K::kGreaterEqual, BINARY(bool, hn::Ge(x, y)));
  set(K::kLogicalAnd, BINARY(bool, hn::And(Truth(x), Truth(y))));
  set(K::kLogicalOr, BINARY(bool, hn::Or(Truth(x), Truth(y))));
  set(K::kLogicalXor, BINARY(bool, hn::Xor(Truth(x), Truth(y))));
}

FloatSteps MakeFloatSteps() {
  FloatSteps steps{};
  SetUnary(steps);
  SetBinary(steps);
  steps.select = SelectStep;
  steps.swiglu = SwiGluStep;
  steps.from_f16 = FromF16;
  steps.from_bf16 = FromBF16;
  steps.to_f16 = ToF16;
  steps.to_bf16 = ToBF16;
  steps.round_f16 = RoundF16;
  steps.round_bf16 = RoundBF16;
  steps.stream_copy = StreamCopy;
  steps.stream_fence = [] { hwy::FlushStream(); };
  return steps;
}

#undef UNARY
#undef BINARY
#undef SCALAR_UNARY
#undef SCALAR_BINARY

}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {

const FloatSteps& float_steps() {
  HWY_EXPORT(MakeFloatSteps);
  static const FloatSteps steps = HWY_DYNAMIC_DISPATCH(MakeFloatSteps)();
  return steps;
}

}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
