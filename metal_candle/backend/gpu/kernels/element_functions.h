// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Elementwise functions that the dialect (dialect.h) does not have. Kernels that are generated find
// this header there already.
#pragma once

#include "metal_candle/backend/gpu/kernels/common.h"

MC_FUNCTION float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

MC_FUNCTION float logistic16(float x) {
  return fast_reciprocal(1.0f + fast_exp2(x * -1.44269504f));
}

MC_FUNCTION float log_add_exp(float x, float y) {
  const float most = x > y || x != x ? x : y;  // NaN wins.
  return x == y ? x + 0.693147180559945309f : most + log1pf(expf(-fabsf(x - y)));
}

// Rounding a quotient may carry it up to an integer, which the remainder then shows. From 2^24 on,
// every float is an integer.
MC_FUNCTION float floor_quotient(float x, float y) {
  const float q = floorf(x / y);
  const float rest = fmaf(-q, y, x);
  const bool above = y > 0.0f ? rest < 0.0f : rest > 0.0f;
  return above && fabsf(q) < 16777216.0f ? q - 1.0f : q;
}

// The sign of the divisor.
MC_FUNCTION float floor_modulo(float x, float y) {
  const float r = fmodf(x, y);
  if (r == 0.0f) return copysignf(0.0f, y);
  return (r < 0.0f) != (y < 0.0f) ? r + y : r;
}

// ---- Integers: T, and W, the unsigned type in which arithmetic wraps.
template <typename T>
MC_FUNCTION T larger(T x, T y) {
  return x > y ? x : y;
}
template <typename T>
MC_FUNCTION T smaller(T x, T y) {
  return x < y ? x : y;
}

// Division by zero gives 0, and the one quotient that overflows wraps.
template <typename T, typename W>
MC_FUNCTION T floor_divide(T x, T y) {
  if (y == 0) return 0;
  if (T(-1) < T(0) && y == T(-1)) return T(W(0) - W(x));
  const T q = T(x / y);
  return x % y != 0 && (x < 0) != (y < 0) ? T(q - 1) : q;
}
template <typename T, typename W>
MC_FUNCTION T floor_remainder(T x, T y) {
  if (y == 0 || (T(-1) < T(0) && y == T(-1))) return 0;
  const T r = T(x % y);
  return r != 0 && (r < 0) != (y < 0) ? T(r + y) : r;
}

// By squaring. A negative exponent truncates 1 / x^-y towards zero.
template <typename T, typename W>
MC_FUNCTION T integer_power(T x, T y) {
  if (y < 0) return x == T(1) ? T(1) : x == T(-1) ? (y % 2 == 0 ? T(1) : T(-1)) : T(0);
  W result = 1;
  W square = W(x);
  for (W exponent = W(y); exponent != 0; exponent >>= 1, square *= square) {
    if (exponent & 1u) result *= square;
  }
  return T(result);
}

// Shifts by more than the width shift everything out.
template <typename T, typename W>
MC_FUNCTION T shift_left(T x, T y) {
  return W(y) < W(sizeof(T) * 8) ? T(W(x) << W(y)) : T(0);
}
template <typename T, typename W>
MC_FUNCTION T shift_right(T x, T y) {
  const W bits = sizeof(T) * 8;
  if (T(-1) < T(0)) return T(x >> (W(y) < bits ? W(y) : bits - 1));
  return W(y) < bits ? T(x >> W(y)) : T(0);
}

// Truncates; NaN gives 0.
template <typename T>
MC_FUNCTION T saturate(float x, float lowest, float end, T least, T most) {
  if (x != x) return 0;
  return x <= lowest ? least : x >= end ? most : T(x);
}

// start + i * step, each number in two floats, so that nothing is lost before the one rounding.
MC_FUNCTION float arange(uint64_t i, float start, float start_rest, float step, float step_rest) {
  const float high = float(uint32_t(i >> 20)) * 1048576.0f;
  const float low = float(uint32_t(i) & 0xfffffu);
  const float product = high * step;
  const float product_rest = fmaf(high, step, -product);
  const float product2 = low * step;
  const float product2_rest = fmaf(low, step, -product2);
  const float sum = product + product2;
  const float part = sum - product;
  const float sum_rest = (product - (sum - part)) + (product2 - part);
  const float all = start + sum;
  const float part2 = all - start;
  const float all_rest = (start - (all - part2)) + (sum - part2);
  return all + (all_rest + (sum_rest + (product_rest + product2_rest) +
                            (start_rest + (high + low) * step_rest)));
}
