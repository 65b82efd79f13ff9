// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// ArgReduce along any axis: a group takes one row, or a few columns that lie side by side.
//
// Inputs: kDenseRows.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {

std::unique_ptr<Kernel> make_arg_reduce(const KernelRequest& request, GpuDevice& device) {
  const auto& o = std::get<op::ArgReduce>(request.operation);
  const AxisPlan axis = plan_axis(request.inputs, o.axis);
  const ColumnGrid grid = column_grid(axis);
  const Function& function = device.function(fmt::format("arg_reduce_{}", name(axis.dtype)));
  // Up to four elements a thread, then more.
  const std::uint32_t down = std::bit_ceil(std::max(groups_for(axis.n, 4), 1u));
  const std::uint32_t threads = std::clamp(down << grid.tile_shift, 32u, 1024u);
  return make_gpu_kernel(
      [=, is_max = o.is_max, &function](const KernelArguments& run, Encoder& encoder) {
        const ArgReduceArguments arguments{.x = run.inputs[0],
                                           .out = static_cast<std::int32_t*>(run.outputs[0]),
                                           .map = axis.maps[0],
                                           .stride = axis.strides[0],
                                           .columns = axis.columns,
                                           .n = checked_count(axis.n),
                                           .tile_shift = grid.tile_shift,
                                           .is_max = is_max ? 1u : 0u};
        encoder.dispatch(function, {grid.groups}, threads, arguments);
      });
}

}  // namespace metal_candle::backend::gpu
