// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sorting as a part of kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle::backend::gpu {

/// Sorts along an axis, stable, NaN last in either order.
class SortPlan {
 public:
  /// `out` has the dtype of x, or is i32 and takes positions; it may be shorter along the axis.
  SortPlan(const TensorLayout& x, const TensorLayout& out, int axis, bool descending,
           bool positions, GpuDevice& device);
  [[nodiscard]] std::size_t scratch_bytes() const { return 2 * items_bytes_; }
  void encode(Encoder& encoder, const void* x, void* out, void* scratch) const;

 private:
  const Function& blocks_;
  const Function& merge_;
  SortArguments common_{};
  std::uint32_t lines_ = 0;
  std::size_t items_bytes_ = 0;  // Of each of two buffers; 0 where a block is all.
};

}  // namespace metal_candle::backend::gpu
