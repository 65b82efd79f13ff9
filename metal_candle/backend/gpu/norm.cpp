// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// RMS norm and layer norm over the last axis, and their gradients.
//
// Inputs: x and dy kDenseRows, weight, bias and residual kContiguous, all of one dtype. The forward
// operations may overwrite x (input 0), the backward ones any input.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/reduce.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::array kElements{8u, 16u, 32u};
constexpr std::uint32_t kMaxThreads = 1024;
constexpr std::uint32_t kLongRowThreads = 1024;
constexpr std::uint32_t kMaxBackwardThreads = 512;

std::unique_ptr<Kernel> make_forward(const KernelRequest& request, bool layer, float eps,
                                     GpuDevice& device) {
  const AxisPlan axis = plan_rows_of({request.inputs[0], request.outputs[0]});
  const RowLaunches launches = plan_rows(device, "norm_rows", axis, kElements, kMaxThreads);
  const Function* const long_rows =
      launches.fit() ? nullptr
                     : &device.function(fmt::format("norm_long_rows_{}", name(axis.dtype)));
  return make_gpu_kernel([=](const KernelArguments& run, Encoder& encoder) {
    const void* weight = run.inputs.size() > 1 ? run.inputs[1] : nullptr;
    const void* bias = run.inputs.size() > 2 ? run.inputs[2] : nullptr;
    const RowLaunch& launch = launches.choose({run.inputs[0], weight, bias, run.outputs[0]});
    const NormArguments arguments{.x = run.inputs[0],
                                  .weight = weight,
                                  .bias = bias,
                                  .out = run.outputs[0],
                                  .map = axis.maps[0],
                                  .rows = checked_count(axis.outer),
                                  .n = checked_count(axis.n),
                                  .team_shift = launch.team_shift,
                                  .eps = eps,
                                  .layer = layer ? 1u : 0u};
    if (launch.function != nullptr) return launch.run(encoder, arguments);
    encoder.dispatch(*long_rows, {arguments.rows}, kLongRowThreads, arguments);
  });
}

// One form of the backward kernel.
struct BackwardForm {
  const Function* function;
  std::uint32_t threads;
};
BackwardForm backward_form(const AxisPlan& axis, bool aligned, bool wants_dweight,
                           GpuDevice& device) {
  const std::string_view suffix = aligned ? "" : "_unaligned";
  for (const std::uint32_t each : {8u, 16u}) {
    const std::uint32_t threads = std::max((groups_for(axis.n, each) + 31) / 32 * 32, 32u);
    if (threads > (each == 8 ? kMaxBackwardThreads / 2 : kMaxBackwardThreads)) continue;
    return {&device.function(fmt::format("norm_backward_{}{}_{}{}", wants_dweight ? "dweight_" : "",
                                         name(axis.dtype), each, suffix)),
            threads};
  }
  return {&device.function(fmt::format("norm_backward_long_rows_{}", name(axis.dtype))),
          kLongRowThreads};
}

std::unique_ptr<Kernel> make_backward(const KernelRequest& request, bool layer, float eps,
                                      GpuDevice& device) {
  const bool has_weight = request.inputs.size() >= 3;
  const bool has_residual = request.inputs.size() == 4;
  const std::size_t dy_input = has_weight ? 2 : 1;
  const bool wants_dweight = has_weight && request.needed[1];
  const AxisPlan axis =
      plan_rows_of({request.inputs[0], request.inputs[dy_input], request.outputs[0]});
  const BackwardForm unaligned = backward_form(axis, false, wants_dweight, device);
  const BackwardForm aligned =
      axis.packets ? backward_form(axis, true, wants_dweight, device) : unaligned;
  const auto rows = static_cast<std::uint32_t>(checked_count(axis.outer));
  // A group's share of dweight is kept until the end, so that few groups take many rows each.
  const std::uint32_t resident =
      device.limits().multiprocessors * std::clamp(1024u / unaligned.threads, 1u, 8u);
  const std::uint32_t groups = wants_dweight ? std::min(rows, resident) : rows;
  // Summed over no rows, dweight is 0.
  const PartialReduction sum(device, ReduceKind::kSum, axis.dtype, axis.n, groups);
  return make_gpu_kernel(
      [=](const KernelArguments& run, Encoder& encoder) {
        const void* weight = has_weight ? run.inputs[1] : nullptr;
        const void* dy = run.inputs[dy_input];
        const void* residual = has_residual ? run.inputs[3] : nullptr;
        void* dx = run.outputs[0];
        const bool is_packed = is_aligned(run.inputs[0]) && is_aligned(weight) && is_aligned(dy) &&
                               is_aligned(residual) && is_aligned(dx);
        const BackwardForm& form = is_packed ? aligned : unaligned;
        const NormBackwardArguments arguments{
            .x = run.inputs[0],
            .weight = weight,
            .dy = dy,
            .residual = residual,
            .dx = dx,
            .dweight_parts = wants_dweight ? static_cast<float*>(run.scratch) : nullptr,
            .x_map = axis.maps[0],
            .dy_map = axis.maps[1],
            .rows = rows,
            .n = checked_count(axis.n),
            .eps = eps,
            .layer = layer ? 1u : 0u};
        encoder.dispatch(*form.function, {groups}, form.threads, arguments);
        if (wants_dweight) sum.encode(encoder, run.scratch, run.outputs[1]);
      },
      wants_dweight ? std::size_t{groups} * static_cast<std::size_t>(axis.n) * sizeof(float) : 0);
}

}  // namespace

std::unique_ptr<Kernel> make_norm(const KernelRequest& request, GpuDevice& device) {
  const Operation& operation = request.operation;
  if (const auto* o = std::get_if<op::RmsNorm>(&operation)) {
    return make_forward(request, false, o->eps, device);
  }
  if (const auto* o = std::get_if<op::RmsNormBackward>(&operation)) {
    return make_backward(request, false, o->eps, device);
  }
  if (const auto* o = std::get_if<op::LayerNorm>(&operation)) {
    return make_forward(request, true, o->eps, device);
  }
  return make_backward(request, true, std::get<op::LayerNormBackward>(operation).eps, device);
}

}  // namespace metal_candle::backend::gpu
