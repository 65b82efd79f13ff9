// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products by simdgroup matrices (kernels/product.h), in tiles that suit the shape.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "metal_candle/backend/gpu/gpu_device.h"

namespace metal_candle::backend::metal {

class MetalDevice;

/// Of kernels/product.h.
struct ProductTile {
  std::int64_t rows, columns;
  std::uint32_t threads;
  std::string_view name;
};
[[nodiscard]] std::span<const ProductTile> product_tiles();
/// The tile for products of that shape, on a GPU of so many cores.
[[nodiscard]] const ProductTile& choose_tile(std::int64_t rows, std::int64_t columns,
                                             std::int64_t batch, std::uint32_t cores);

class MetalMatmul final : public gpu::Matmul {
 public:
  /// Every product that the description can say, but for those of 2^31 rows, columns or depth.
  static std::unique_ptr<MetalMatmul> make(MetalDevice& device,
                                           const gpu::MatmulDescription& description);
  /// In a tile of the caller's choice.
  static std::unique_ptr<MetalMatmul> make(MetalDevice& device,
                                           const gpu::MatmulDescription& description,
                                           const ProductTile& tile);
  bool encode(const gpu::MatmulOperands& operands, gpu::Encoder& encoder) const override;
  [[nodiscard]] const ProductTile& tile() const { return tile_; }

 private:
  MetalMatmul(const gpu::MatmulDescription& description, const ProductTile& tile,
              const gpu::Function& function)
      : description_(description), tile_(tile), function_(function) {}

  gpu::MatmulDescription description_;
  const ProductTile& tile_;
  const gpu::Function& function_;
};

}  // namespace metal_candle::backend::metal
