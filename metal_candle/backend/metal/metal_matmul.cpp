// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See metal_matmul.h.
#include "metal_candle/backend/metal/metal_matmul.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "metal_candle/backend/batch.h"
#include "metal_candle/backend/metal/kernels/arguments.h"
#include "metal_candle/backend/metal/metal_device.h"

namespace metal_candle::backend::metal {
namespace {

// The largest first: they read operands least often.
constexpr ProductTile kTiles[] = {{64, 64, 128, "64x64"}, {32, 64, 128, "32x64"},
                                  {32, 32, 128, "32x32"}, {16, 64, 128, "16x64"},
                                  {8, 64, 128, "8x64"},   {64, 8, 128, "64x8"}};
constexpr std::int64_t kMostBatches = 65535;  // Of a grid's z.

std::int64_t tiles_of(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

}  // namespace

std::span<const ProductTile> product_tiles() { return kTiles; }

// What a tile computes beyond the matrix is lost, and cores without a group are: of the tiles that
// waste least of the two, the largest.
const ProductTile& choose_tile(std::int64_t rows, std::int64_t columns, std::int64_t batch,
                               std::uint32_t cores) {
  const ProductTile* best = nullptr;
  double least = std::numeric_limits<double>::infinity();
  for (const ProductTile& tile : kTiles) {
    const std::int64_t groups = batch * tiles_of(rows, tile.rows) * tiles_of(columns, tile.columns);
    const std::int64_t waves = tiles_of(groups, cores);
    const auto area = static_cast<double>(tile.rows * tile.columns);
    // A group computes its area, and reads its two edges for each step of the depth, which costs
    // about as much as 16 elements each.
    const double cost =
        static_cast<double>(waves) * (area + 16.0 * static_cast<double>(tile.rows + tile.columns));
    if (cost < least) {
      least = cost;
      best = &tile;
    }
  }
  return *best;
}

std::unique_ptr<MetalMatmul> MetalMatmul::make(MetalDevice& device,
                                               const gpu::MatmulDescription& d) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (d.m > kMost || d.n > kMost || d.k > kMost) return nullptr;
  return make(device, d, choose_tile(d.m, d.n, d.batch, device.limits().multiprocessors));
}

std::unique_ptr<MetalMatmul> MetalMatmul::make(MetalDevice& device, const gpu::MatmulDescription& d,
                                               const ProductTile& tile) {
  const std::string_view operands = metal_candle::name(d.operands);
  const std::string types = d.operands == d.out
                                ? std::string(operands)
                                : fmt::format("{}_{}", operands, metal_candle::name(d.out));
  const gpu::Function& function = device.function(fmt::format("product_{}_{}", tile.name, types));
  return std::unique_ptr<MetalMatmul>(new MetalMatmul(d, tile, function));
}

bool MetalMatmul::encode(const gpu::MatmulOperands& operands, gpu::Encoder& encoder) const {
  const gpu::MatmulDescription& d = description_;
  for (std::int64_t first = 0; first < d.batch; first += kMostBatches) {
    const std::int64_t count = std::min(d.batch - first, kMostBatches);
    ProductArguments arguments{};
    arguments.a = offset_data(operands.a, first * d.a.batch_stride, d.operands);
    arguments.b = offset_data(operands.b, first * d.b.batch_stride, d.operands);
    arguments.bias = d.has_bias ? operands.bias : nullptr;
    arguments.c = d.beta == 0 ? operands.out : operands.c;
    arguments.c = offset_data(arguments.c, first * d.out_batch_stride, d.out);
    arguments.out = offset_data(operands.out, first * d.out_batch_stride, d.out);
    arguments.a_row_stride = d.a.row_stride;
    arguments.a_column_stride = d.a.column_stride;
    arguments.a_batch_stride = d.a.batch_stride;
    arguments.b_row_stride = d.b.row_stride;
    arguments.b_column_stride = d.b.column_stride;
    arguments.b_batch_stride = d.b.batch_stride;
    arguments.out_row_stride = d.out_row_stride;
    arguments.out_batch_stride = d.out_batch_stride;
    arguments.rows = static_cast<std::uint32_t>(d.m);
    arguments.columns = static_cast<std::uint32_t>(d.n);
    arguments.depth = static_cast<std::uint32_t>(d.k);
    arguments.activation = static_cast<std::uint32_t>(d.activation);
    arguments.alpha = d.alpha;
    arguments.beta = d.beta;
    const gpu::Grid grid{gpu::groups_for(d.n, tile_.columns), gpu::groups_for(d.m, tile_.rows),
                         static_cast<std::uint32_t>(count)};
    encoder.dispatch(function_, grid, tile_.threads, arguments);
  }
  return true;
}

}  // namespace metal_candle::backend::metal
