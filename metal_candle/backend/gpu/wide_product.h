// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The host's side of kernels/wide_product.h.
#pragma once

#include <cstdint>
#include <span>

#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"

namespace metal_candle::backend::gpu {

/// The sum of products whose results all have one shape, as the kernels of wide_product.h make it.
class WideProduct {
 public:
  /// panel_columns: those of a panel, 224 or 256.
  WideProduct(std::span<const MatmulDescription> products, std::int64_t panel_columns,
              const DeviceLimits& limits);

  /// Whether they can and should: the device has wide products, matrices are of 16 bits and of whole
  /// packets, and there are rows enough. Operands have to be aligned besides (is_aligned() of rows.h).
  [[nodiscard]] bool suits() const { return suits_; }
  /// Steps along all inner axes.
  [[nodiscard]] std::int32_t steps() const { return steps_; }
  [[nodiscard]] Grid grid() const { return grid_; }
  /// `product` is one of those given.
  void describe(const GpuDevice& device, const MatmulDescription& product, const void* a,
                const void* b, ProductTerm& out) const;

 private:
  bool suits_ = false;
  std::int64_t panel_columns_;
  std::int32_t steps_ = 0;
  Grid grid_;
};

}  // namespace metal_candle::backend::gpu
