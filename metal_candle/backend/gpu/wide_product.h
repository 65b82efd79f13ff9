// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The host's side of kernels/wide_product.h.
#pragma once

#include <cstdint>
#include <span>

#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle::backend::gpu {

/// Dense rows [m, k] times b [k, n], of the shape and dtype of `out`, dense [.., n].
[[nodiscard]] MatmulDescription product_of_rows(const TensorLayout& out, const TensorLayout& b);

/// The sum of products whose results all have one shape, as the kernels of wide_product.h make it.
class WideProduct {
 public:
  /// panel_columns: those of a panel, 224 or 256.
  WideProduct(std::span<const MatmulDescription> products, std::int64_t panel_columns,
              const DeviceLimits& limits);

  /// Whether they can and should: the device has wide products, matrices are of 16 bits and of
  /// whole packets, and there are rows enough. Operands have to be aligned besides (is_aligned() of
  /// rows.h).
  [[nodiscard]] bool suits() const { return suits_; }
  [[nodiscard]] const WideProductShape& shape() const { return shape_; }
  [[nodiscard]] Grid grid() const { return grid_; }
  /// Whether the right operand lies by rows: such terms come last.
  [[nodiscard]] static bool by_rows(const MatmulDescription& product) {
    return product.b.row_stride == 1;
  }
  /// `product` is one of those given.
  void describe(const GpuDevice& device, const MatmulDescription& product, const void* a,
                const void* b, ProductTerm& out) const;

 private:
  bool suits_ = false;
  std::int64_t panel_columns_;
  WideProductShape shape_{};
  Grid grid_;
};

}  // namespace metal_candle::backend::gpu
