// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// SwiGluBackward: both gradients, for which everything is read once. Of a product: by one kernel
// where wide_product.h suits, else by the library's product and that.
//
// Inputs: kContiguous, b kMatrix, all of one dtype. An output may overwrite what it is the gradient
// of.
#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/rows.h"
#include "metal_candle/backend/gpu/wide_product.h"

namespace metal_candle::backend::gpu {
namespace {

bool all_aligned(const auto& operands) {
  return std::all_of(operands.begin(), operands.end(),
                     [](const void* operand) { return is_aligned(operand); });
}

// The kernel of a gradient that is there.
struct OfGiven {
  const Function& aligned;
  const Function& unaligned;
  std::int64_t count;
  std::int64_t width;

  OfGiven(const TensorLayout& gate, GpuDevice& device)
      : aligned(device.function(fmt::format("swiglu_backward_{}", name(gate.dtype)))),
        unaligned(device.function(fmt::format("swiglu_backward_{}_unaligned", name(gate.dtype)))),
        count(num_elements(gate.shape)),
        width(static_cast<std::int64_t>(16 / size_of(gate.dtype))) {}

  void encode(const KernelArguments& run, const void* dy, Encoder& encoder) const {
    constexpr std::uint32_t kThreads = 256;
    const bool packets = count % width == 0 && all_aligned(run.inputs.first(2)) && is_aligned(dy) &&
                         all_aligned(run.outputs);
    const SwiGluBackwardArguments arguments{run.inputs[0],  run.inputs[1],  dy,
                                            run.outputs[0], run.outputs[1], count};
    encoder.dispatch(packets ? aligned : unaligned,
                     {groups_for(count, kThreads * (packets ? width : 1))}, kThreads, arguments);
  }
};

std::unique_ptr<Kernel> make_of_product(const KernelRequest& request, GpuDevice& device) {
  const TensorLayout& gate = request.inputs[0];
  const MatmulDescription d = product_of_rows(gate, request.inputs[3]);
  if (d.m == 0 || d.n == 0) return make_gpu_kernel([](const KernelArguments&, Encoder&) {});
  const OfGiven of_given(gate, device);
  std::shared_ptr<const Matmul> product = require_matmul(device, d, "swiglu_backward");
  const std::size_t dy_bytes =
      round_up(static_cast<std::size_t>(of_given.count) * size_of(gate.dtype), 256);
  const std::size_t scratch = dy_bytes + product->scratch_bytes();
  const WideProduct wide({&d, 1}, 256, device.limits());
  const Function* function =
      wide.suits() ? &device.function(fmt::format("swiglu_product_{}", name(d.operands))) : nullptr;
  return make_gpu_kernel(
      [=, &device](const KernelArguments& run, Encoder& encoder) {
        if (function == nullptr || !all_aligned(run.inputs) || !all_aligned(run.outputs)) {
          void* const dy = run.scratch;
          encoder.matmul(*product, {.a = run.inputs[2],
                                    .b = run.inputs[3],
                                    .out = dy,
                                    .scratch = static_cast<char*>(run.scratch) + dy_bytes});
          of_given.encode(run, dy, encoder);
          return;
        }
        SwiGluProductArguments arguments{};
        wide.describe(device, d, run.inputs[2], run.inputs[3], arguments.term);
        arguments.gate = run.inputs[0];
        arguments.up = run.inputs[1];
        arguments.dgate = run.outputs[0];
        arguments.dup = run.outputs[1];
        arguments.shape = wide.shape();
        encoder.dispatch(*function, wide.grid(), kWideProductThreads, arguments, kWideProductBytes);
      },
      scratch);
}

}  // namespace

std::unique_ptr<Kernel> make_swiglu_backward(const KernelRequest& request, GpuDevice& device) {
  if (std::get<op::SwiGluBackward>(request.operation).of_product) {
    return make_of_product(request, device);
  }
  const OfGiven of_given(request.inputs[0], device);
  return make_gpu_kernel([of_given](const KernelArguments& run, Encoder& encoder) {
    of_given.encode(run, run.inputs[2], encoder);
  });
}

}  // namespace metal_candle::backend::gpu
