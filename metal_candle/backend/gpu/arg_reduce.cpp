// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// ArgReduce along any axis: a group takes one row, or a few columns that lie side by side. Of few
// long ones several groups take a part each, and a second kernel joins what they found.
//
// Inputs: kDenseRows.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kMostParts = 64;  // kernels/arg_reduce.h: kArgReduceParts.
constexpr std::size_t kItemBytes = 16;    // At most.

// Into how many parts columns of n elements are cut, of which `groups` groups take one each.
std::uint32_t part_count(std::uint32_t n, std::uint32_t groups, std::uint32_t multiprocessors) {
  constexpr std::uint32_t kLeast = 2048;  // Elements of a part.
  return std::clamp(std::min(n / kLeast, multiprocessors / std::max(groups, 1u)), 1u, kMostParts);
}

}  // namespace

std::unique_ptr<Kernel> make_arg_reduce(const KernelRequest& request, GpuDevice& device) {
  const auto& o = std::get<op::ArgReduce>(request.operation);
  const AxisPlan axis = plan_axis(request.inputs, o.axis);
  const ColumnGrid grid = column_grid(axis);
  const Function& function = device.function(fmt::format("arg_reduce_{}", name(axis.dtype)));
  // Up to four elements a thread, then more.
  const std::uint32_t down = std::bit_ceil(std::max(groups_for(axis.n, 4), 1u));
  const std::uint32_t threads = std::clamp(down << grid.tile_shift, 32u, 1024u);
  const Function& join =
      device.function(size_of(axis.dtype) == 8 ? "arg_reduce_join_u64" : "arg_reduce_join_u32");
  const std::uint32_t n = checked_count(axis.n);
  const std::uint32_t parts = part_count(n, grid.groups, device.limits().multiprocessors);
  const auto outputs = static_cast<std::uint32_t>(checked_count(axis.outer * axis.columns));
  const std::size_t scratch = parts > 1 ? std::size_t{outputs} * parts * kItemBytes : 0;
  return make_gpu_kernel(
      [=, is_max = o.is_max, &function, &join](const KernelArguments& run, Encoder& encoder) {
        const ArgReduceArguments arguments{.x = run.inputs[0],
                                           .out = static_cast<std::int32_t*>(run.outputs[0]),
                                           .map = axis.maps[0],
                                           .stride = axis.strides[0],
                                           .columns = axis.columns,
                                           .n = n,
                                           .tile_shift = grid.tile_shift,
                                           .is_max = is_max ? 1u : 0u,
                                           .part_length = groups_for(n, parts),
                                           .parts = parts > 1 ? run.scratch : nullptr};
        encoder.dispatch(function, {grid.groups, parts}, threads, arguments);
        if (parts == 1) return;
        ArgReduceArguments joined = arguments;
        joined.columns = parts;
        encoder.dispatch(join, {outputs}, kMostParts, joined);
      },
      scratch);
}

}  // namespace metal_candle::backend::gpu
