// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a device can do at best, measured: the roof that figures are held against.
#pragma once

#include "metal_candle/core/device.h"
#include "metal_candle/core/dtype.h"

namespace metal_candle {

struct MachineLimits {
  double copy_bytes_per_second = 0;  // Read plus written, of arrays larger than any cache.
  double f32_flops_per_second = 0;   // Of a large square product.
  double bf16_flops_per_second = 0;

  /// The rate for operands of that dtype: bf16's for 16 bits.
  [[nodiscard]] double flops_per_second(DType dtype) const {
    return size_of(dtype) == 2 ? bf16_flops_per_second : f32_flops_per_second;
  }
  /// The least seconds that so much work can take: the longer of moving and computing. What stays
  /// in a cache may be quicker.
  [[nodiscard]] double least_seconds(double bytes, double flops, DType dtype) const;
};

/// Measures with the engine's own kernels, the best of several tries: about a second on a CPU.
/// Throws OutOfMemoryError where there is no room for its arrays (96 MB on a CPU, 2 GB elsewhere).
[[nodiscard]] MachineLimits measure_machine_limits(Device device);

}  // namespace metal_candle
