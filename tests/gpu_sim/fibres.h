// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Runs kernels that were compiled with prelude_host.h: one group after the other, the threads of a
// group as fibres.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

#define MC_PRELUDE_HOST
#include "metal_candle/backend/gpu/dialect.h"

namespace metal_candle::gpu_sim {

struct HostKernel {
  std::string name;
  std::size_t argument_bytes = 0;
  int max_threads = 0;
  int group_bytes = 0;  // -1: the dispatch says.
  Body body = nullptr;
};

/// A matrix and the boxes that copy_box() takes of it, as a TileMap holds it here.
struct BoxedMatrix {
  const void* address;
  std::int64_t rows, columns, row_stride;  // Elements of 16 bits.
  std::int64_t box_rows, box_columns;
};

/// The registered kernel of that name; null if there is none.
[[nodiscard]] const HostKernel* find_kernel(std::string_view name);

/// The memory of the group that runs on this thread.
[[nodiscard]] char* group_memory();

/// Ends the running thread of the kernel, and run_grid() with the error. For signal handlers' sake:
/// the thread may be anywhere, and what it holds is not destroyed.
[[noreturn]] void fail_thread(std::exception_ptr error);

/// Runs every group to its end, on this thread. Throws std::logic_error for what a GPU would not
/// forgive: a group that is too large, or of a part of a warp; arguments of another size; a barrier
/// or a shuffle that some threads never reach; memory beyond the group's.
void run_grid(const HostKernel& kernel, std::uint32_t grid_x, std::uint32_t grid_y,
              std::uint32_t grid_z, std::uint32_t threads, std::size_t dynamic_group_bytes,
              const void* arguments, std::size_t argument_bytes);

}  // namespace metal_candle::gpu_sim
