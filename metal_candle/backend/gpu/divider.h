// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Division by a number that is known before a kernel runs, by a multiplication (Granlund and
// Montgomery, "Division by invariant integers using multiplication", PLDI 1994).
#pragma once

#include <bit>
#include <cstdint>

namespace metal_candle::backend::gpu {

/// n / divisor is (n * magic / 2^32 + n) >> shift for n < 2^31, which divide() of kernels/common.h
/// computes.
struct Divider {
  explicit Divider(std::uint32_t divisor)
      : shift(static_cast<std::uint32_t>(std::bit_width(divisor - 1))) {
    const std::uint64_t one = 1;
    magic = static_cast<std::uint32_t>((((one << shift) - divisor) << 32) / divisor + 1);
  }
  std::uint32_t magic;
  std::uint32_t shift;
};

}  // namespace metal_candle::backend::gpu
