// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reductions one element at a time, which compilers vectorise for integers: of integers and bool,
// of anything to any() and all(), and of floating runs with gaps.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "metal_candle/core/dtype.h"
#include "metal_candle/graph/operation.h"

namespace metal_candle::backend::cpu {

template <typename T>
inline constexpr bool kIsFloating =
    std::is_same_v<T, float> || std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;

/// The value that changes nothing.
template <ReduceKind kKind, typename A>
constexpr A reduce_identity() {
  constexpr bool kTrue = kKind == ReduceKind::kProd || kKind == ReduceKind::kAll;
  if constexpr (kKind == ReduceKind::kMax) {
    if constexpr (std::is_floating_point_v<A>) return -std::numeric_limits<A>::infinity();
    return std::numeric_limits<A>::lowest();
  } else if constexpr (kKind == ReduceKind::kMin) {
    if constexpr (std::is_floating_point_v<A>) return std::numeric_limits<A>::infinity();
    return std::numeric_limits<A>::max();
  } else {
    return static_cast<A>(kTrue);
  }
}

/// Two values made one. Integers wrap; bool adds as or, multiplies as and; a NaN stays.
template <ReduceKind kKind, typename A>
constexpr A reduce_two(A a, A b) {
  if constexpr (kKind == ReduceKind::kMax || kKind == ReduceKind::kMin) {
    const bool first = kKind == ReduceKind::kMax ? a > b : a < b;
    if constexpr (std::is_floating_point_v<A>) return first || std::isnan(a) ? a : b;
    return first ? a : b;
  } else if constexpr (std::is_same_v<A, bool>) {
    constexpr bool kOr = kKind == ReduceKind::kSum || kKind == ReduceKind::kAny;
    return kOr ? (a | b) != 0 : (a & b) != 0;
  } else if constexpr (std::is_floating_point_v<A>) {
    return kKind == ReduceKind::kSum ? a + b : a * b;
  } else {
    // At least as wide as unsigned, since narrower types would be promoted to int and overflow.
    using Unsigned = std::make_unsigned_t<A>;
    using U = std::common_type_t<Unsigned, unsigned>;
    const U x = static_cast<Unsigned>(a), y = static_cast<Unsigned>(b);
    return static_cast<A>(kKind == ReduceKind::kSum ? x + y : x * y);
  }
}

/// A policy for run_reduce(), see reduce.h.
template <ReduceKind kKind, typename T>
struct ScalarReduce {
  static constexpr bool kLogical = kKind == ReduceKind::kAny || kKind == ReduceKind::kAll;
  using Element = T;
  using Output = std::conditional_t<kLogical, bool, T>;
  using Accumulator =
      std::conditional_t<kLogical, bool, std::conditional_t<kIsFloating<T>, float, T>>;
  // Inside a run, floating values accumulate more finely.
  using Running = std::conditional_t<std::is_same_v<Accumulator, float>, double, Accumulator>;

  static Accumulator identity() { return reduce_identity<kKind, Accumulator>(); }
  static Accumulator join(Accumulator a, Accumulator b) { return reduce_two<kKind>(a, b); }
  static Output finish(Accumulator a) { return static_cast<Output>(a); }
  static Accumulator read(T value) {
    if constexpr (kLogical && kIsFloating<T>) {
      return static_cast<float>(value) != 0;
    } else if constexpr (kLogical) {
      return value != T{};
    } else {
      return static_cast<Accumulator>(value);
    }
  }
  static Accumulator fold_run(const T* p, std::int64_t count, std::int64_t stride) {
    Running total = reduce_identity<kKind, Running>();
    if (stride == 1) {
      for (std::int64_t i = 0; i < count; ++i) {
        total = reduce_two<kKind>(total, static_cast<Running>(read(p[i])));
      }
    } else {
      for (std::int64_t i = 0; i < count; ++i) {
        total = reduce_two<kKind>(total, static_cast<Running>(read(p[i * stride])));
      }
    }
    return static_cast<Accumulator>(total);
  }
  static void add_row(Accumulator* acc, const T* p, std::int64_t columns) {
    for (std::int64_t c = 0; c < columns; ++c) acc[c] = join(acc[c], read(p[c]));
  }
  static void add_four_rows(Accumulator* acc, const T* p0, const T* p1, const T* p2, const T* p3,
                            std::int64_t columns) {
    for (std::int64_t c = 0; c < columns; ++c) {
      const Accumulator a = join(read(p0[c]), read(p1[c]));
      acc[c] = join(acc[c], join(a, join(read(p2[c]), read(p3[c]))));
    }
  }
};

}  // namespace metal_candle::backend::cpu
