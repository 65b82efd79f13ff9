// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Cumulative along any axis. Floating values accumulate in f32 and are rounded once an element.
//
// Inputs: kDenseRows; the output may overwrite input 0.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {

std::unique_ptr<Kernel> make_cumulative(const KernelRequest& request, GpuDevice& device) {
  constexpr std::uint32_t kColumnThreads = 128;
  const auto& o = std::get<op::Cumulative>(request.operation);
  const std::array operands{request.inputs[0], request.outputs[0]};
  const AxisPlan axis = plan_axis(operands, o.axis);
  const bool rows = axis.columns == 1;
  const Function& function =
      device.function(fmt::format("cumulative_{}_{}", rows ? "rows" : "columns", name(axis.dtype)));
  const std::int64_t lines = axis.outer * axis.columns;
  const std::uint32_t threads =
      rows ? std::clamp((groups_for(axis.n, 4) + 31) / 32 * 32, 32u, 512u) : kColumnThreads;
  const std::uint32_t groups = checked_count(rows ? lines : groups_for(lines, kColumnThreads));
  return make_gpu_kernel([=, &function](const KernelArguments& run, Encoder& encoder) {
    const CumulativeArguments arguments{.x = run.inputs[0],
                                        .out = run.outputs[0],
                                        .x_map = axis.maps[0],
                                        .out_map = axis.maps[1],
                                        .x_stride = axis.strides[0],
                                        .out_stride = axis.strides[1],
                                        .columns = axis.columns,
                                        .lines = lines,
                                        .n = checked_count(axis.n),
                                        .kind = static_cast<std::uint32_t>(o.kind),
                                        .reverse = o.reverse ? 1u : 0u};
    encoder.dispatch(function, {groups}, threads, arguments);
  });
}

}  // namespace metal_candle::backend::gpu
