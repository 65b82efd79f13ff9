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
struct TileChoice {
  const ProductTile* tile;
  std::int64_t parts;  // Of the depth, each made by a group of its own.
};
/// For products of that shape, on a GPU of so many cores.
[[nodiscard]] TileChoice choose_tile(std::int64_t rows, std::int64_t columns, std::int64_t depth,
                                     std::int64_t batch, std::uint32_t cores);

class MetalMatmul final : public gpu::Matmul {
 public:
  /// Every product that the description can say, but for those of 2^31 rows, columns, depth or
  /// batches.
  static std::unique_ptr<MetalMatmul> make(MetalDevice& device,
                                           const gpu::MatmulDescription& description);
  /// In tiles of the caller's choice.
  static std::unique_ptr<MetalMatmul> make(MetalDevice& device,
                                           const gpu::MatmulDescription& description,
                                           const TileChoice& choice);
  bool encode(const gpu::MatmulOperands& operands, gpu::Encoder& encoder) const override;

 private:
  MetalMatmul(MetalDevice& device, const gpu::MatmulDescription& description,
              const TileChoice& choice);

  gpu::MatmulDescription description_;
  const ProductTile& tile_;
  std::int64_t part_depth_;
  std::int64_t parts_;
  const gpu::Function& function_;
  const gpu::Function* sum_ = nullptr;  // If there are several parts.
};

}  // namespace metal_candle::backend::metal
