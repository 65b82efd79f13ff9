// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Softmax, log-softmax and log-sum-exp along any axis, and the gradient of softmax.
//
// Inputs: kDenseRows, all of them. Softmax, LogSoftmax and SoftmaxBackward may overwrite input 0.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::array kElements{8u, 16u, 32u};
constexpr std::array kBackwardElements{8u, 16u};  // Of each of two operands.
constexpr std::uint32_t kMaxThreads = 1024;
constexpr std::uint32_t kColumnThreads = 256;
constexpr std::uint32_t kLongRowThreads = 1024;

std::unique_ptr<Kernel> make_columns(const AxisPlan& axis, SoftmaxMode mode, GpuDevice& device) {
  const Function& function = device.function(fmt::format("softmax_columns_{}", name(axis.dtype)));
  return make_gpu_kernel([axis, mode, grid = column_grid(axis), &function](
                             const KernelArguments& run, Encoder& encoder) {
    const SoftmaxColumnsArguments arguments{.x = run.inputs[0],
                                            .dy = nullptr,
                                            .out = run.outputs[0],
                                            .x_map = axis.maps[0],
                                            .dy_map = {},
                                            .out_map = axis.maps[1],
                                            .x_stride = axis.strides[0],
                                            .dy_stride = 0,
                                            .out_stride = axis.strides[1],
                                            .columns = axis.columns,
                                            .n = checked_count(axis.n),
                                            .mode = mode,
                                            .tile_shift = grid.tile_shift};
    encoder.dispatch(function, {grid.groups}, kColumnThreads, arguments);
  });
}

// For rows that do not fit in registers.
struct ChunkForm {
  ChunkForm(GpuDevice& device, const AxisPlan& axis)
      : sums(device, axis),
        outputs(device, fmt::format("softmax_chunks_{}", name(axis.dtype)), axis.packets),
        log_sum_exp(&device.function(fmt::format("log_sum_exp_chunks_{}", name(axis.dtype)))) {}

  ChunkSums sums;
  PacketFunction outputs;
  const Function* log_sum_exp;
};

std::unique_ptr<Kernel> make_rows(const AxisPlan& axis, SoftmaxMode mode, GpuDevice& device) {
  const RowLaunches launches = plan_rows(device, "softmax_rows", axis, kElements, kMaxThreads);
  std::optional<ChunkForm> in_chunks;
  if (!launches.fit()) in_chunks.emplace(device, axis);
  return make_gpu_kernel(
      [=](const KernelArguments& run, Encoder& encoder) {
        const void* x = run.inputs[0];
        void* out = run.outputs[0];
        const RowLaunch& launch = launches.choose({x, out});
        const RowChunks chunks = in_chunks ? in_chunks->sums.chunks() : RowChunks{};
        const SoftmaxArguments arguments{.x = x,
                                         .out = out,
                                         .partials = static_cast<float*>(run.scratch),
                                         .map = axis.maps[0],
                                         .rows = checked_count(axis.outer),
                                         .n = checked_count(axis.n),
                                         .team_shift = launch.team_shift,
                                         .mode = mode,
                                         .chunk = chunks.chunk,
                                         .chunks = chunks.count};
        if (launch.function != nullptr) return launch.run(encoder, arguments);
        in_chunks->sums.encode(encoder, x, run.scratch);
        if (mode == SoftmaxMode::kLogSumExp) {
          encoder.dispatch(*in_chunks->log_sum_exp, {arguments.rows}, 32, arguments);
        } else {
          encoder.dispatch(in_chunks->outputs.choose({x, out}), {chunks.groups}, chunks.threads,
                           arguments);
        }
      },
      in_chunks ? in_chunks->sums.bytes() : 0);
}

std::unique_ptr<Kernel> make_forward(const KernelRequest& request, SoftmaxMode mode, int axis,
                                     GpuDevice& device) {
  const std::array operands{request.inputs[0], request.outputs[0]};
  // Log-sum-exp writes one element for a row or column, in their order.
  const bool only_sum = mode == SoftmaxMode::kLogSumExp;
  const AxisPlan plan = plan_axis(std::span(operands).first(only_sum ? 1 : 2), axis);
  if (plan.rows) return make_rows(plan, mode, device);
  return make_columns(plan, mode, device);
}

std::unique_ptr<Kernel> make_backward_columns(const AxisPlan& axis, GpuDevice& device) {
  const Function& function =
      device.function(fmt::format("softmax_backward_columns_{}", name(axis.dtype)));
  return make_gpu_kernel(
      [axis, grid = column_grid(axis), &function](const KernelArguments& run, Encoder& encoder) {
        const SoftmaxColumnsArguments arguments{.x = run.inputs[0],
                                                .dy = run.inputs[1],
                                                .out = run.outputs[0],
                                                .x_map = axis.maps[0],
                                                .dy_map = axis.maps[1],
                                                .out_map = axis.maps[2],
                                                .x_stride = axis.strides[0],
                                                .dy_stride = axis.strides[1],
                                                .out_stride = axis.strides[2],
                                                .columns = axis.columns,
                                                .n = checked_count(axis.n),
                                                .mode = SoftmaxMode::kSoftmax,
                                                .tile_shift = grid.tile_shift};
        encoder.dispatch(function, {grid.groups}, kColumnThreads, arguments);
      });
}

std::unique_ptr<Kernel> make_backward(const KernelRequest& request, int axis, GpuDevice& device) {
  const std::array operands{request.inputs[0], request.inputs[1], request.outputs[0]};
  const AxisPlan plan = plan_axis(operands, axis);
  if (!plan.rows) return make_backward_columns(plan, device);
  const RowLaunches launches =
      plan_rows(device, "softmax_backward_rows", plan, kBackwardElements, kMaxThreads);
  const Function* const long_rows =
      launches.fit()
          ? nullptr
          : &device.function(fmt::format("softmax_backward_long_rows_{}", name(plan.dtype)));
  return make_gpu_kernel([=](const KernelArguments& run, Encoder& encoder) {
    const RowLaunch& launch = launches.choose({run.inputs[0], run.inputs[1], run.outputs[0]});
    const SoftmaxBackwardArguments arguments{.y = run.inputs[0],
                                             .dy = run.inputs[1],
                                             .dx = run.outputs[0],
                                             .y_map = plan.maps[0],
                                             .dy_map = plan.maps[1],
                                             .rows = checked_count(plan.outer),
                                             .n = checked_count(plan.n),
                                             .team_shift = launch.team_shift};
    if (launch.function != nullptr) return launch.run(encoder, arguments);
    encoder.dispatch(*long_rows, {arguments.rows}, kLongRowThreads, arguments);
  });
}

}  // namespace

std::unique_ptr<Kernel> make_softmax(const KernelRequest& request, GpuDevice& device) {
  const Operation& operation = request.operation;
  if (const auto* o = std::get_if<op::Softmax>(&operation)) {
    return make_forward(request, SoftmaxMode::kSoftmax, o->axis, device);
  }
  if (const auto* o = std::get_if<op::LogSoftmax>(&operation)) {
    return make_forward(request, SoftmaxMode::kLogSoftmax, o->axis, device);
  }
  if (const auto* o = std::get_if<op::LogSumExp>(&operation)) {
    return make_forward(request, SoftmaxMode::kLogSumExp, o->axis, device);
  }
  return make_backward(request, std::get<op::SoftmaxBackward>(operation).axis, device);
}

}  // namespace metal_candle::backend::gpu
