// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What reductions and scans are made of: accumulators, how two of them join, and reductions over a
// warp and a group. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/common.h"

// What elements accumulate in. Integers wrap as their own type does, since what is added to them is
// cut off in the end.
template <typename T>
struct AccumulatorOf {
  typedef int32_t Type;
};
template <>
struct AccumulatorOf<float> {
  typedef float Type;
};
template <>
struct AccumulatorOf<half> {
  typedef float Type;
};
template <>
struct AccumulatorOf<bfloat> {
  typedef float Type;
};
template <>
struct AccumulatorOf<uint32_t> {
  typedef uint32_t Type;
};
template <>
struct AccumulatorOf<int64_t> {
  typedef int64_t Type;
};

template <typename A>
struct Accumulating;
template <>
struct Accumulating<float> {
  static MC_FUNCTION float least() { return -INFINITY; }
  static MC_FUNCTION float greatest() { return INFINITY; }
  static MC_FUNCTION float sum(float a, float b) { return a + b; }
  static MC_FUNCTION float product(float a, float b) { return a * b; }
};
// Signed overflow is undefined; unsigned numbers wrap.
template <>
struct Accumulating<int32_t> {
  static MC_FUNCTION int32_t least() { return -2147483647 - 1; }
  static MC_FUNCTION int32_t greatest() { return 2147483647; }
  static MC_FUNCTION int32_t sum(int32_t a, int32_t b) {
    return int32_t(uint32_t(a) + uint32_t(b));
  }
  static MC_FUNCTION int32_t product(int32_t a, int32_t b) {
    return int32_t(uint32_t(a) * uint32_t(b));
  }
};
template <>
struct Accumulating<uint32_t> {
  static MC_FUNCTION uint32_t least() { return 0; }
  static MC_FUNCTION uint32_t greatest() { return 0xffffffffu; }
  static MC_FUNCTION uint32_t sum(uint32_t a, uint32_t b) { return a + b; }
  static MC_FUNCTION uint32_t product(uint32_t a, uint32_t b) { return a * b; }
};
template <>
struct Accumulating<int64_t> {
  static MC_FUNCTION int64_t least() { return -int64_t(0x7fffffffffffffff) - 1; }
  static MC_FUNCTION int64_t greatest() { return int64_t(0x7fffffffffffffff); }
  static MC_FUNCTION int64_t sum(int64_t a, int64_t b) {
    return int64_t(uint64_t(a) + uint64_t(b));
  }
  static MC_FUNCTION int64_t product(int64_t a, int64_t b) {
    return int64_t(uint64_t(a) * uint64_t(b));
  }
};

// As ReduceKind numbers them.
enum { kReduceSum, kReduceProd, kReduceMax, kReduceMin, kReduceAny, kReduceAll };

template <int kind, typename A>
struct Reducer {
  static MC_FUNCTION A identity() {
    if (kind == kReduceMax) return Accumulating<A>::least();
    if (kind == kReduceMin) return Accumulating<A>::greatest();
    return kind == kReduceProd || kind == kReduceAll ? A(1) : A(0);
  }
  // A NaN stays.
  static MC_FUNCTION A join(A a, A b) {
    if (kind == kReduceSum) return Accumulating<A>::sum(a, b);
    if (kind == kReduceProd) return Accumulating<A>::product(a, b);
    if (kind == kReduceMax) return a > b || a != a ? a : b;
    if (kind == kReduceMin) return a < b || a != a ? a : b;
    return kind == kReduceAny ? (a > b ? a : b) : (a < b ? a : b);
  }
  template <typename T>
  static MC_FUNCTION A read(T x) {
    const A value = A(x);
    if (kind == kReduceAny || kind == kReduceAll) return value != A(0) ? A(1) : A(0);
    return value;
  }
};

template <typename A>
MC_FUNCTION A shuffle_xor(A x, uint32_t mask) {
  return lane_shuffle_xor(x, mask);
}
MC_FUNCTION int64_t shuffle_xor(int64_t x, uint32_t mask) {
  const uint32_t low = lane_shuffle_xor(uint32_t(x), mask);
  const uint32_t high = lane_shuffle_xor(uint32_t(uint64_t(x) >> 32), mask);
  return int64_t(uint64_t(high) << 32 | low);
}

template <typename R, typename A>
MC_FUNCTION A lane_reduce(A x, uint32_t lanes) {
  for (uint32_t mask = lanes / 2; mask > 0; mask >>= 1) x = R::join(x, shuffle_xor(x, mask));
  return x;
}

// For every thread. memory: 32 accumulators.
template <typename R, typename A>
MC_FUNCTION A group_reduce(A x, MC_GROUP char* memory, Thread self) {
  MC_GROUP A* const shared = reinterpret_cast<MC_GROUP A*>(memory);
  x = lane_reduce<R>(x, 32);
  if (self.size == 32) return x;
  if (self.lane == 0) shared[self.warp] = x;
  group_barrier();
  x = R::identity();
  if (self.lane < self.size / 32) x = shared[self.lane];
  return lane_reduce<R>(x, 32);
}
