// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Cross entropy of logits with class indices, which reads the logits once, in chunks of rows, so
// that one row fills the device too; and its gradient.
//
// Inputs: logits kDenseRows, the others kContiguous. CrossEntropyBackward may overwrite input 0. A
// target that is no class gives NaN, since kernels cannot throw.
#include <fmt/format.h>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kFinishThreads = 128;  // A warp a row.

CrossEntropyArguments common_arguments(const AxisPlan& axis, const RowChunks& chunks,
                                       DType target_dtype, std::int64_t ignore_index) {
  CrossEntropyArguments arguments{};
  arguments.map = axis.maps[0];
  arguments.ignore_index = ignore_index;
  arguments.rows = checked_count(axis.outer);
  arguments.n = checked_count(axis.n);
  arguments.chunk = chunks.chunk;
  arguments.chunks = chunks.count;
  arguments.wide_targets = target_dtype == DType::kI64 ? 1 : 0;
  return arguments;
}

std::unique_ptr<Kernel> make_forward(const KernelRequest& request, std::int64_t ignore_index,
                                     GpuDevice& device) {
  const AxisPlan axis = plan_rows_of({request.inputs[0]});
  const ChunkSums sums(device, axis);
  const Function& finish = device.function(fmt::format("cross_entropy_{}", name(axis.dtype)));
  const CrossEntropyArguments common =
      common_arguments(axis, sums.chunks(), request.inputs[1].dtype, ignore_index);
  return make_gpu_kernel(
      [=, &finish](const KernelArguments& run, Encoder& encoder) {
        sums.encode(encoder, run.inputs[0], run.scratch);
        CrossEntropyArguments arguments = common;
        arguments.logits = run.inputs[0];
        arguments.targets = run.inputs[1];
        arguments.partials = static_cast<const float*>(run.scratch);
        arguments.loss = static_cast<float*>(run.outputs[0]);
        arguments.logsumexp = static_cast<float*>(run.outputs[1]);
        encoder.dispatch(finish, {groups_for(arguments.rows, kFinishThreads / 32)}, kFinishThreads,
                         arguments);
      },
      sums.bytes());
}

std::unique_ptr<Kernel> make_backward(const KernelRequest& request, std::int64_t ignore_index,
                                      GpuDevice& device) {
  const AxisPlan axis = plan_rows_of({request.inputs[0], request.outputs[0]});
  const RowChunks chunks = plan_chunks(axis, device);
  const PacketFunction function(device, fmt::format("cross_entropy_backward_{}", name(axis.dtype)),
                                axis.packets);
  const CrossEntropyArguments common =
      common_arguments(axis, chunks, request.inputs[1].dtype, ignore_index);
  return make_gpu_kernel([=](const KernelArguments& run, Encoder& encoder) {
    CrossEntropyArguments arguments = common;
    arguments.logits = run.inputs[0];
    arguments.targets = run.inputs[1];
    arguments.logsumexp = static_cast<float*>(run.inputs[2]);
    arguments.dloss = static_cast<const float*>(run.inputs[3]);
    arguments.dlogits = run.outputs[0];
    encoder.dispatch(function.choose({run.inputs[0], run.outputs[0]}), {chunks.groups},
                     chunks.threads, arguments);
  });
}

}  // namespace

std::unique_ptr<Kernel> make_cross_entropy(const KernelRequest& request, GpuDevice& device) {
  if (const auto* o = std::get_if<op::CrossEntropy>(&request.operation)) {
    return make_forward(request, o->ignore_index, device);
  }
  const auto& o = std::get<op::CrossEntropyBackward>(request.operation);
  return make_backward(request, o.ignore_index, device);
}

}  // namespace metal_candle::backend::gpu
