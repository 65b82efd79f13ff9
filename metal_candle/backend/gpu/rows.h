// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The host side of kernels/rows.h: which form of a row kernel a shape gets, and where rows begin.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "metal_candle/backend/batch.h"
#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"

namespace metal_candle::backend::gpu {

/// Elements of a 16-byte packet.
inline std::int64_t packet_width(DType dtype) {
  return 16 / static_cast<std::int64_t>(size_of(dtype));
}

/// Whether packets may be loaded from there.
inline bool is_aligned(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % 16 == 0;
}

/// Throws ShapeError for a count that kernels, which count rows and columns in 32 bits, cannot
/// take.
[[nodiscard]] std::uint32_t checked_count(std::int64_t count);

/// For elements of `sizes` that lie `strides` apart.
[[nodiscard]] RowMap row_map(const Shape& sizes, const Strides& strides);

/// How an operation along one axis walks operands of one shape: along rows where the axis is the
/// dense one in all of them; else down columns, many of them side by side.
struct AxisPlan {
  DType dtype = DType::kF32;
  std::int64_t n = 0;        // Along the axis.
  std::int64_t outer = 0;    // Rows, or groups of columns.
  std::int64_t columns = 1;  // In a group.
  bool rows = false;
  bool packets =
      false;  // Rows begin where packets may, if the address does, and are whole packets.
  std::array<RowMap, 3> maps{};           // Of `outer`, by operand.
  std::array<std::int64_t, 3> strides{};  // Along the axis, by operand.
};
[[nodiscard]] AxisPlan plan_axis(std::span<const TensorLayout> operands, int axis);
/// Along the last axis of dense rows: always rows.
[[nodiscard]] AxisPlan plan_rows_of(std::initializer_list<TensorLayout> operands);

/// The grid of a columns kernel.
struct ColumnGrid {
  std::uint32_t tile_shift = 0;
  std::uint32_t groups = 0;
};
[[nodiscard]] ColumnGrid column_grid(const AxisPlan& axis);

/// A row kernel with its grid.
struct RowLaunch {
  const Function* function = nullptr;  // Null: the rows do not fit in registers.
  std::uint32_t threads = 0;
  std::uint32_t team_shift = 0;
  std::uint32_t groups = 0;

  template <typename Arguments>
  void run(Encoder& encoder, const Arguments& arguments) const {
    encoder.dispatch(*function, {groups}, threads, arguments);
  }
};

/// Its two forms, of which addresses decide at each run.
struct RowLaunches {
  RowLaunch aligned;  // Null if rows never are.
  RowLaunch unaligned;

  /// Whether rows fit in registers wherever they begin.
  [[nodiscard]] bool fit() const { return unaligned.function != nullptr; }
  [[nodiscard]] const RowLaunch& choose(std::initializer_list<const void*> addresses) const {
    for (const void* address : addresses) {
      if (!is_aligned(address)) return unaligned;
    }
    return aligned.function != nullptr ? aligned : unaligned;
  }
};

/// The kernels of `family` (MC_ROW_KERNELS) for these rows. `elements`: the numbers of elements a
/// thread that it comes in, ascending. max_threads: of a group, when aligned.
[[nodiscard]] RowLaunches plan_rows(GpuDevice& device, std::string_view family,
                                    const AxisPlan& axis, std::span<const std::uint32_t> elements,
                                    std::uint32_t max_threads);

/// Rows cut in chunks of one group each.
struct RowChunks {
  std::uint32_t chunk = 0;    // Elements of a chunk, whole packets; the last of a row has fewer.
  std::uint32_t count = 0;    // Of a row.
  std::uint32_t groups = 0;   // Of all rows.
  std::uint32_t threads = 0;  // Of a group: at most 512.
};
[[nodiscard]] RowChunks plan_chunks(const AxisPlan& axis, const GpuDevice& device);

/// A function in two forms, of which addresses decide at each run.
class PacketFunction {
 public:
  /// `name` and `name`_unaligned; the second always if rows never are aligned.
  PacketFunction(GpuDevice& device, const std::string& name, bool packets);
  [[nodiscard]] const Function& choose(std::initializer_list<const void*> addresses) const;

 private:
  const Function* aligned_;
  const Function* unaligned_;
};

/// The sums of exponentials of chunks (kernels/shifted_sum.h).
class ChunkSums {
 public:
  ChunkSums(GpuDevice& device, const AxisPlan& axis);
  [[nodiscard]] const RowChunks& chunks() const { return chunks_; }
  /// Bytes of the partial sums, [rows][chunks] of two floats.
  [[nodiscard]] std::size_t bytes() const { return chunks_.groups * 2 * sizeof(float); }
  void encode(Encoder& encoder, const void* x, void* partials) const;

 private:
  AxisPlan axis_;
  RowChunks chunks_;
  PacketFunction function_;
};

}  // namespace metal_candle::backend::gpu
