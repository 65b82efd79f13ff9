// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Runs kernels that were compiled with prelude_host.h: one group after the other, the threads of a
// group as fibres.
#pragma once

#include <cstddef>
#include <cstdint>
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

/// The registered kernel of that name; null if there is none.
[[nodiscard]] const HostKernel* find_kernel(std::string_view name);

/// Runs every group to its end, on this thread. Throws std::logic_error for what a GPU would not
/// forgive: a group that is too large, or of a part of a warp; arguments of another size; a barrier
/// or a shuffle that some threads never reach.
void run_grid(const HostKernel& kernel, std::uint32_t grid_x, std::uint32_t grid_y,
              std::uint32_t grid_z, std::uint32_t threads, std::size_t dynamic_group_bytes,
              const void* arguments, std::size_t argument_bytes);

}  // namespace metal_candle::gpu_sim
