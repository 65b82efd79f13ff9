// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// nextafter(), in arithmetic that every device has: a little more than half the distance to the
// neighbour is added, and rounding does the rest (Rump, Zimmermann, Boldo, Melquiond: Computing
// predecessor and successor in rounding to nearest, BIT 49, 2009).
#include <cmath>

#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/creation.h"
#include "metal_candle/graph/ops/elementwise.h"
#include "metal_candle/graph/ops/layout.h"

namespace metal_candle {
namespace {

struct Format {
  int digits;           // Of the significand, in bits.
  int least;            // 2^least is the smallest number above 0.
  double most;          // The largest that is finite.
  bool as_wide_as_f32;  // In its exponent: the smallest numbers are where f32 has few digits.
};

Format format_of(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return {11, -24, 65504, false};
    case DType::kBF16:
      return {8, -133, std::ldexp(255, 120), true};
    default:
      return {24, -149, std::ldexp(16777215, 104), true};
  }
}

// Numbers below this are scaled up, so that the distance to the neighbour has all digits of f32.
constexpr int kSmall = -60, kScale = 64;

// The neighbours above and below of y > 0, f32 that a dtype holds.
struct Neighbours {
  Tensor above, below;
};

Neighbours neighbours(const Tensor& y, DType dtype, const Format& format) {
  const double unit = std::ldexp(1, -format.digits);
  const Tensor is_small = y < std::ldexp(1, kSmall);
  const Tensor scaled = y * where(is_small, std::ldexp(1, kScale), 1.0);
  const Tensor back = where(is_small, std::ldexp(1, -kScale), 1.0);
  // Among the subnormal numbers, the neighbours are at the distance of the least one.
  const Tensor least = where(is_small, std::ldexp(1, format.least + kScale),
                             format.as_wide_as_f32 ? 0.0 : std::ldexp(1, format.least));
  const Tensor step = maximum(scaled * (unit * (1 + 2 * unit)), least);
  const auto rounded = [&](const Tensor& x) {
    return astype(astype(x, dtype), DType::kF32) * back;
  };
  return {rounded(scaled + step), where(y > format.most, format.most, rounded(scaled - step))};
}

}  // namespace

Tensor nextafter(const Operand& a, const Operand& b) {
  const DType met = detail::meeting_dtype("nextafter", a, b);
  const DType dtype = is_floating(met) ? met : DType::kF32;
  const Device device = (a.tensor() ? a.tensor() : b.tensor())->device();
  const Tensor x = stop_gradient(detail::materialize("nextafter", a, dtype, device));
  const Tensor target = stop_gradient(detail::materialize("nextafter", b, dtype, device));
  const Format format = format_of(dtype);
  const auto [above, below] = neighbours(astype(abs(x), DType::kF32), dtype, format);
  const Tensor outward = (target > x) == (x > 0);
  const Tensor moved = copysign(astype(where(outward, above, below), dtype), x);
  const Tensor from_zero = copysign(full({}, std::ldexp(1, format.least), dtype, device), target);
  return where((x == target) | isnan(target), target, where(x == 0, from_zero, moved));
}

}  // namespace metal_candle
