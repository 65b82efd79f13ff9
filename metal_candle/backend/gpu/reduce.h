// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What reductions have in common: how they are cut, by shape and device alone, and the second half
// of those that are cut in chunks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/graph/operation.h"

namespace metal_candle::backend::gpu {

inline constexpr std::uint32_t kReduceThreads = 256;  // Of a group, at most.

/// Of an element of that dtype: f32 where it is floating, 64 bits wide where it is i64, else 32.
inline std::size_t accumulator_bytes(DType dtype) {
  return std::max(size_of(dtype), sizeof(float));
}

/// Each output by a part of a warp, a group, or several groups (kernels/reduce_loops.h).
struct RowsGrid {
  std::uint32_t threads = kReduceThreads;
  std::uint32_t groups = 0;
  std::uint32_t units = 0, chunk = 0, chunks = 1;  // Of an output.
  std::uint32_t team_shift = 0, whole_group = 0;
};
/// `units`: packets of an output.
[[nodiscard]] RowsGrid rows_grid(const GpuDevice& device, DType dtype, std::int64_t outputs,
                                 std::int64_t units);

/// Tiles of columns by groups.
struct ColumnsGrid {
  std::uint32_t groups = 0;
  std::uint32_t rows = 0, chunk = 0, chunks = 1;  // Of a column.
  std::uint32_t tile_shift = 0;
};
/// `outer` times `columns` of them, taken `width` at a time.
[[nodiscard]] ColumnsGrid columns_grid(const GpuDevice& device, DType dtype, std::int64_t outer,
                                       std::int64_t columns, std::int64_t width, std::int64_t rows);

/// Reduces partial results [parts][outputs], which are accumulators, in order, to outputs of
/// `dtype`.
class PartialReduction {
 public:
  PartialReduction(GpuDevice& device, ReduceKind kind, DType dtype, std::int64_t outputs,
                   std::uint32_t parts);
  void encode(Encoder& encoder, const void* partials, void* out) const;
  [[nodiscard]] std::size_t partial_bytes() const;

 private:
  const Function& function_;
  ReduceKind kind_;
  DType dtype_;
  std::int64_t outputs_;
  std::uint32_t parts_;
};

/// Text of the dialect that generated reductions begin with: kernels/reduce_loops.h and what it
/// needs beyond kernels/common.h.
[[nodiscard]] std::string reduction_text();

}  // namespace metal_candle::backend::gpu
