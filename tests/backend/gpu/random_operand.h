// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Operands of kernel tests: normally distributed elements, the same for the same seed.
#pragma once

#include <cmath>
#include <random>

#include "tests/support/host_tensor.h"

namespace metal_candle::testing {

/// Elements are rounded, and of bool whether they are positive.
inline HostTensor random_operand(const Shape& shape, DType dtype, std::uint32_t seed,
                                 double deviation = 1) {
  HostTensor host(shape, dtype);
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal(0, deviation);
  for (std::int64_t i = 0; i < host.size(); ++i) {
    const double value = normal(engine);
    if (host.is_real()) {
      host.r(i) = round_to(value, dtype);
    } else {
      host.n(i) = dtype == DType::kBool ? value > 0 : wrap_to(std::lround(value), dtype);
    }
  }
  return host;
}

}  // namespace metal_candle::testing
