// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Chains of elementwise programs, with Highway: an interpreter whose accumulator is several vectors
// wide and lives in registers, so that a link costs a jump for all of them and a load for each.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/elementwise_chain.cpp"
#include "hwy/foreach_target.h"
//
#include <cstring>

#include "hwy/highway.h"
#include "metal_candle/backend/cpu/elementwise_math-inl.h"
#include "metal_candle/backend/cpu/elementwise_steps.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

// The accumulator, and room for what a link needs beside it.
constexpr int kVectors = HWY_TARGET == HWY_AVX3 ? 8 : 4;
constexpr std::size_t kLanes = hn::MaxLanes(DF());

// Where a vector of an array of T lies: in the array, or, if only its first elements do, in a
// buffer.
struct WholeVector {
  template <typename T>
  [[nodiscard]] HWY_INLINE const T* from(const T* array, T*) const {
    return array;
  }
  template <typename T, typename Store>
  HWY_INLINE void to(T* array, Store store) const {
    store(array);
  }
};
struct PartOfVector {
  std::size_t count;
  template <typename T>
  [[nodiscard]] HWY_INLINE const T* from(const T* array, T* buffer) const {
    std::memcpy(buffer, array, count * sizeof(T));
    return buffer;
  }
  template <typename T, typename Store>
  HWY_INLINE void to(T* array, Store store) const {
    HWY_ALIGN T buffer[kLanes];
    store(buffer);
    std::memcpy(array, buffer, count * sizeof(T));
  }
};

template <class Part>
HWY_INLINE VF LoadAs(Part part, const float* array) {
  HWY_ALIGN float buffer[kLanes] = {};
  return hn::LoadU(DF(), part.from(array, buffer));
}
template <DType kHalf, class Part>
HWY_INLINE VF LoadAs(Part part, const std::uint16_t* array) {
  HWY_ALIGN std::uint16_t buffer[kLanes] = {};
  const std::uint16_t* const half = part.from(array, buffer);
  return kHalf == DType::kBF16 ? LoadBF16(half) : LoadF16(half);
}

// An address that the compiler knows nothing of: it would keep the offset of each vector of a block
// for all arrays, in more registers than there are.
template <typename T>
HWY_INLINE T* Opaque(T* address) {
  asm("" : "+r"(address));
  return address;
}

// Asks for what is read a page later: from memory, that gives a chain of some arithmetic a tenth.
template <typename T>
HWY_INLINE const T* AskAhead(const T* array) {
  constexpr std::uintptr_t kBytesAhead = 4096;
  __builtin_prefetch(
      reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(array) + kBytesAhead), 0, 3);
  return array;
}

// N vectors from element i on.
template <int N, class Part>
HWY_INLINE void RunBlock(const ChainArguments& a, std::size_t i, Part part) {
  const DF d;
  VF v[N];
  if (a.in_dtype == DType::kF32) {
    const float* const in = static_cast<const float*>(a.in) + i;
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) v[k] = LoadAs(part, AskAhead(in + k * kLanes));
  } else {
    const std::uint16_t* const in = static_cast<const std::uint16_t*>(a.in) + i;
    const bool is_bf16 = a.in_dtype == DType::kBF16;
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) {
      const std::uint16_t* const half = AskAhead(in + k * kLanes);
      v[k] = is_bf16 ? LoadAs<DType::kBF16>(part, half) : LoadAs<DType::kF16>(part, half);
    }
  }
  for (const LinkCall& link : a.links) {
    const auto unary = [&](auto fn) HWY_ATTR {
#pragma GCC unroll 8
      for (int k = 0; k < N; ++k) v[k] = fn(v[k]);
    };
    // The dtype is asked for once, not for every vector.
    const auto binary = [&](auto fn) HWY_ATTR {
      if (link.dtype == DType::kF32) {
        const float* const y = Opaque(static_cast<const float*>(link.operand) + i);
#pragma GCC unroll 8
        for (int k = 0; k < N; ++k) v[k] = fn(v[k], LoadAs(part, y + k * kLanes));
        return;
      }
      const std::uint16_t* const y = Opaque(static_cast<const std::uint16_t*>(link.operand) + i);
      if (link.dtype == DType::kBF16) {
#pragma GCC unroll 8
        for (int k = 0; k < N; ++k) v[k] = fn(v[k], LoadAs<DType::kBF16>(part, y + k * kLanes));
      } else {
#pragma GCC unroll 8
        for (int k = 0; k < N; ++k) v[k] = fn(v[k], LoadAs<DType::kF16>(part, y + k * kLanes));
      }
    };
    switch (link.link) {
      case Link::kNone:
        break;
      case Link::kAdd:
        binary([](VF x, VF y) HWY_ATTR { return hn::Add(x, y); });
        break;
      case Link::kSubtract:
        binary([](VF x, VF y) HWY_ATTR { return hn::Sub(x, y); });
        break;
      case Link::kSubtractFrom:
        binary([](VF x, VF y) HWY_ATTR { return hn::Sub(y, x); });
        break;
      case Link::kMultiply:
        binary([](VF x, VF y) HWY_ATTR { return hn::Mul(x, y); });
        break;
      case Link::kDivide:
        binary([](VF x, VF y) HWY_ATTR { return hn::Div(x, y); });
        break;
      case Link::kDivideInto:
        binary([](VF x, VF y) HWY_ATTR { return hn::Div(y, x); });
        break;
      case Link::kMaximum:
        binary([](VF x, VF y) HWY_ATTR { return Maximum(x, y); });
        break;
      case Link::kMaximumOfNumber:
        binary([](VF x, VF y)
                   HWY_ATTR { return HWY_TARGET == HWY_SCALAR ? Maximum(x, y) : hn::Max(y, x); });
        break;
      case Link::kMaximumOf:
        binary([](VF x, VF y) HWY_ATTR { return Maximum(y, x); });
        break;
      case Link::kMinimum:
        binary([](VF x, VF y) HWY_ATTR { return Minimum(x, y); });
        break;
      case Link::kMinimumOfNumber:
        binary([](VF x, VF y)
                   HWY_ATTR { return HWY_TARGET == HWY_SCALAR ? Minimum(x, y) : hn::Min(y, x); });
        break;
      case Link::kMinimumOf:
        binary([](VF x, VF y) HWY_ATTR { return Minimum(y, x); });
        break;
      case Link::kAbs:
        unary([](VF x) HWY_ATTR { return hn::Abs(x); });
        break;
      case Link::kNegative:
        unary([](VF x) HWY_ATTR { return hn::Neg(x); });
        break;
      case Link::kSquare:
        unary([](VF x) HWY_ATTR { return hn::Mul(x, x); });
        break;
      case Link::kSqrt:
        unary([](VF x) HWY_ATTR { return hn::Sqrt(x); });
        break;
      case Link::kRsqrt:
        unary([](VF x) HWY_ATTR { return hn::Div(One(), hn::Sqrt(x)); });
        break;
      case Link::kReciprocal:
        unary([](VF x) HWY_ATTR { return hn::Div(One(), x); });
        break;
      case Link::kRelu:
        unary([](VF x) HWY_ATTR { return Relu(x); });
        break;
      case Link::kExp:
        unary([d](VF x) HWY_ATTR { return Exp(d, x); });
        break;
      case Link::kLog:
        unary([d](VF x) HWY_ATTR { return Log(d, x); });
        break;
      case Link::kTanh:
        unary([d](VF x) HWY_ATTR { return Tanh(d, x); });
        break;
      case Link::kSigmoid:
        unary([d](VF x) HWY_ATTR { return Sigmoid(d, x); });
        break;
      case Link::kSilu:
        unary([d](VF x) HWY_ATTR { return Silu(d, x); });
        break;
      case Link::kGelu:
        unary([d](VF x) HWY_ATTR { return Gelu(d, x); });
        break;
      case Link::kGeluTanh:
        unary([d](VF x) HWY_ATTR { return GeluTanh(d, x); });
        break;
      case Link::kRoundF16:
        unary([](VF x) HWY_ATTR { return NearestF16(x); });
        break;
      case Link::kRoundBF16:
        unary([](VF x) HWY_ATTR { return NearestBF16(x); });
        break;
    }
  }
  if (a.out_dtype == DType::kF32) {
    float* const out = static_cast<float*>(a.out) + i;
    if (a.stream && N > 1) {
#pragma GCC unroll 8
      for (int k = 0; k < N; ++k) hn::Stream(v[k], d, out + k * kLanes);
      return;
    }
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) {
      const VF x = v[k];
      part.to(out + k * kLanes, [x](float* p) HWY_ATTR { hn::StoreU(x, DF(), p); });
    }
    return;
  }
  std::uint16_t* const out = static_cast<std::uint16_t*>(a.out) + i;
  const bool is_bf16 = a.out_dtype == DType::kBF16;
  if (a.stream && N > 1 && is_bf16) {
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) {
      hn::Stream(hn::DemoteTo(DH(), RoundToBF16(v[k])), DH(), out + k * kLanes);
    }
    return;
  }
#pragma GCC unroll 8
  for (int k = 0; k < N; ++k) {
    const VF x = v[k];
    part.to(out + k * kLanes, [x, is_bf16](std::uint16_t* p)
                                  HWY_ATTR { is_bf16 ? StoreBF16(x, p) : StoreF16(x, p); });
  }
}

void RunChain(const ChainArguments& a) {
  constexpr std::size_t kBlock = kVectors * kLanes;
  std::size_t i = 0;
  for (; i + kBlock <= a.count; i += kBlock) RunBlock<kVectors>(a, i, WholeVector{});
  for (; i + kLanes <= a.count; i += kLanes) RunBlock<1>(a, i, WholeVector{});
  if (i < a.count) RunBlock<1>(a, i, PartOfVector{a.count - i});
}

ChainFn Chain() { return RunChain; }

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {
namespace {
HWY_EXPORT(Chain);
}  // namespace

ChainFn chain_function() {
  static const ChainFn best = HWY_DYNAMIC_DISPATCH(Chain)();
  return best;
}

Link link_of(UnaryKind kind) {
  switch (kind) {
    case UnaryKind::kAbs:
      return Link::kAbs;
    case UnaryKind::kNegative:
      return Link::kNegative;
    case UnaryKind::kSquare:
      return Link::kSquare;
    case UnaryKind::kSqrt:
      return Link::kSqrt;
    case UnaryKind::kRsqrt:
      return Link::kRsqrt;
    case UnaryKind::kReciprocal:
      return Link::kReciprocal;
    case UnaryKind::kRelu:
      return Link::kRelu;
    case UnaryKind::kExp:
      return Link::kExp;
    case UnaryKind::kLog:
      return Link::kLog;
    case UnaryKind::kTanh:
      return Link::kTanh;
    case UnaryKind::kSigmoid:
      return Link::kSigmoid;
    case UnaryKind::kSilu:
      return Link::kSilu;
    case UnaryKind::kGelu:
      return Link::kGelu;
    case UnaryKind::kGeluTanh:
      return Link::kGeluTanh;
    default:
      return Link::kNone;
  }
}

Link link_of(BinaryKind kind, bool second) {
  switch (kind) {
    case BinaryKind::kAdd:
      return Link::kAdd;
    case BinaryKind::kSubtract:
      return second ? Link::kSubtractFrom : Link::kSubtract;
    case BinaryKind::kMultiply:
      return Link::kMultiply;
    case BinaryKind::kDivide:
      return second ? Link::kDivideInto : Link::kDivide;
    case BinaryKind::kMaximum:
      return second ? Link::kMaximumOf : Link::kMaximum;
    case BinaryKind::kMinimum:
      return second ? Link::kMinimumOf : Link::kMinimum;
    default:
      return Link::kNone;
  }
}

}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
