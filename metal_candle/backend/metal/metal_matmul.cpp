// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See metal_matmul.h.
#include "metal_candle/backend/metal/metal_matmul.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "metal_candle/backend/metal/kernels/arguments.h"
#include "metal_candle/backend/metal/metal_device.h"

namespace metal_candle::backend::metal {
namespace {

// The largest first: they read operands least often.
constexpr ProductTile kTiles[] = {{64, 64, 128, "64x64"}, {32, 64, 128, "32x64"},
                                  {32, 32, 128, "32x32"}, {16, 64, 128, "16x64"},
                                  {8, 64, 128, "8x64"},   {64, 8, 128, "64x8"}};
// Parts of the depth: of so much at least, and so many at most.
constexpr std::int64_t kLeastPartDepth = 256;
constexpr std::int64_t kMostParts = 16;
constexpr std::int64_t kPartDepthUnit = 32;  // So that packets stay packets.
constexpr std::uint32_t kSumThreads = 256;

std::int64_t tiles_of(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }
std::int64_t round_up(std::int64_t depth) {
  return tiles_of(depth, kPartDepthUnit) * kPartDepthUnit;
}

}  // namespace

std::span<const ProductTile> product_tiles() { return kTiles; }

// What a tile computes beyond the matrix is lost, and cores without a group are: of the tiles that
// waste least of the two, the largest. Where there are fewer tiles than cores, some share the depth
// of one.
TileChoice choose_tile(std::int64_t rows, std::int64_t columns, std::int64_t depth,
                       std::int64_t batch, std::uint32_t cores) {
  // In multiply-adds of a core: reading or writing an element costs about as much as 16, another
  // dispatch that waits about 3 microseconds.
  constexpr double kElement = 16;
  constexpr double kDispatch = 5e5;
  TileChoice best{};
  double least = std::numeric_limits<double>::infinity();
  for (const ProductTile& tile : kTiles) {
    const std::int64_t groups = batch * tiles_of(rows, tile.rows) * tiles_of(columns, tile.columns);
    // A group computes its area, and reads its two edges, for each step of the depth.
    const double step = static_cast<double>(tile.rows * tile.columns) +
                        kElement * static_cast<double>(tile.rows + tile.columns);
    const std::int64_t most =
        groups < cores ? std::clamp<std::int64_t>(depth / kLeastPartDepth, 1, kMostParts) : 1;
    for (std::int64_t parts = 1; parts <= most; ++parts) {
      const std::int64_t steps =
          tiles_of(groups * parts, cores) * std::max<std::int64_t>(tiles_of(depth, parts), 1);
      double cost = step * static_cast<double>(steps);
      if (parts > 1) {
        // Sums are written and read.
        cost += kDispatch + 2 * kElement * static_cast<double>(batch * rows * columns * parts) /
                                static_cast<double>(cores);
      }
      if (cost < least) {
        least = cost;
        best = {&tile, parts};
      }
    }
  }
  return best;
}

std::unique_ptr<MetalMatmul> MetalMatmul::make(MetalDevice& device,
                                               const gpu::MatmulDescription& d) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (d.m > kMost || d.n > kMost || d.k > kMost || d.batch > kMost) return nullptr;
  return make(device, d, choose_tile(d.m, d.n, d.k, d.batch, device.limits().multiprocessors));
}

std::unique_ptr<MetalMatmul> MetalMatmul::make(MetalDevice& device, const gpu::MatmulDescription& d,
                                               const TileChoice& choice) {
  return std::unique_ptr<MetalMatmul>(new MetalMatmul(device, d, choice));
}

namespace {

const gpu::Function& product_function(MetalDevice& device, const gpu::MatmulDescription& d,
                                      std::string_view tile) {
  const std::string_view operands = metal_candle::name(d.operands);
  const std::string types = d.operands == d.out
                                ? std::string(operands)
                                : fmt::format("{}_{}", operands, metal_candle::name(d.out));
  return device.function(fmt::format("product_{}_{}", tile, types));
}

}  // namespace

MetalMatmul::MetalMatmul(MetalDevice& device, const gpu::MatmulDescription& d,
                         const TileChoice& choice)
    : description_(d),
      tile_(*choice.tile),
      // Rounded up, so that fewer parts may do.
      part_depth_(round_up(std::max<std::int64_t>(tiles_of(d.k, choice.parts), 1))),
      parts_(std::max<std::int64_t>(tiles_of(d.k, part_depth_), 1)),
      function_(product_function(device, d, tile_.name)) {
  if (parts_ == 1) return;
  sum_ = &device.function(fmt::format("product_parts_{}", metal_candle::name(d.out)));
  scratch_bytes_ = static_cast<std::size_t>(d.batch * parts_ * d.m * d.n) * sizeof(float);
}

bool MetalMatmul::encode(const gpu::MatmulOperands& operands, gpu::Encoder& encoder) const {
  const gpu::MatmulDescription& d = description_;
  ProductArguments arguments{};
  arguments.a = operands.a;
  arguments.b = operands.b;
  arguments.bias = d.has_bias ? operands.bias : nullptr;
  arguments.c = d.beta == 0 ? operands.out : operands.c;
  arguments.out = operands.out;
  arguments.sums = operands.scratch;
  arguments.a_row_stride = d.a.row_stride;
  arguments.a_column_stride = d.a.column_stride;
  arguments.a_batch_stride = d.a.batch_stride;
  arguments.b_row_stride = d.b.row_stride;
  arguments.b_column_stride = d.b.column_stride;
  arguments.b_batch_stride = d.b.batch_stride;
  arguments.out_row_stride = d.out_row_stride;
  arguments.out_batch_stride = d.out_batch_stride;
  arguments.batch = static_cast<std::uint32_t>(d.batch);
  arguments.rows = static_cast<std::uint32_t>(d.m);
  arguments.columns = static_cast<std::uint32_t>(d.n);
  arguments.depth = static_cast<std::uint32_t>(d.k);
  arguments.parts = static_cast<std::uint32_t>(parts_);
  arguments.part_depth = static_cast<std::uint32_t>(part_depth_);
  arguments.activation = static_cast<std::uint32_t>(d.activation);
  arguments.alpha = d.alpha;
  arguments.beta = d.beta;
  const std::int64_t tiles = tiles_of(d.m, tile_.rows) * tiles_of(d.n, tile_.columns);
  encoder.dispatch(function_, {static_cast<std::uint32_t>(tiles * d.batch * parts_)}, tile_.threads,
                   arguments);
  if (sum_ != nullptr) {
    encoder.dispatch(*sum_, {gpu::groups_for(d.batch * d.m * d.n, kSumThreads)}, kSumThreads,
                     arguments);
  }
  return true;
}

}  // namespace metal_candle::backend::metal
