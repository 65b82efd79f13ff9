// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// SwiGluBackward: both gradients, for which everything is read once.
//
// Inputs: kContiguous, all of one dtype. An output may overwrite what it is the gradient of.
#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {

std::unique_ptr<Kernel> make_swiglu_backward(const KernelRequest& request, GpuDevice& device) {
  constexpr std::uint32_t kThreads = 256;
  const TensorLayout& gate = request.inputs[0];
  const std::int64_t count = num_elements(gate.shape);
  const auto width = static_cast<std::int64_t>(16 / size_of(gate.dtype));
  const Function& aligned = device.function(fmt::format("swiglu_backward_{}", name(gate.dtype)));
  const Function& unaligned =
      device.function(fmt::format("swiglu_backward_{}_unaligned", name(gate.dtype)));
  return make_gpu_kernel([=, &aligned, &unaligned](const KernelArguments& run, Encoder& encoder) {
    const auto all_aligned = [](const auto& operands) {
      return std::all_of(operands.begin(), operands.end(),
                         [](const void* operand) { return is_aligned(operand); });
    };
    const bool packets = count % width == 0 && all_aligned(run.inputs) && all_aligned(run.outputs);
    const SwiGluBackwardArguments arguments{run.inputs[0],  run.inputs[1],  run.inputs[2],
                                            run.outputs[0], run.outputs[1], count};
    encoder.dispatch(packets ? aligned : unaligned,
                     {groups_for(count, kThreads * (packets ? width : 1))}, kThreads, arguments);
  });
}

}  // namespace metal_candle::backend::gpu
