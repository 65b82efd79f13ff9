// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Elementwise operations, by kernels that are generated for them (elementwise_source.h), and copies
// of views. Inputs: kAny. The output may overwrite an input that lies as it does.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "metal_candle/backend/gpu/elementwise_source.h"
#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/strided_copy.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::gpu {
namespace {

// Operands at least this large whose rows are not the dense axis are transposed first: element by
// element they would cost a sector of memory each.
constexpr std::int64_t kTransposeElements = 1 << 14;
constexpr std::size_t kScratchAlignment = 256;

// Groups of the most threads while there are enough for the device, then smaller ones.
std::uint32_t threads_for(std::int64_t packets, const DeviceLimits& limits) {
  std::uint32_t threads = kElementwiseThreads;
  const std::int64_t enough = 2 * static_cast<std::int64_t>(limits.multiprocessors);
  while (threads > 64 && packets / threads < enough) threads /= 2;
  return threads;
}

// An operand that is copied to the scratch before it is computed on.
struct TransposedOperand {
  std::size_t index;
  StridedCopy copy;
  std::size_t scratch_offset;
};

std::unique_ptr<Kernel> make_generated(const KernelRequest& request, GpuDevice& device) {
  std::vector<TensorLayout> inputs(request.inputs.begin(), request.inputs.end());
  std::vector<TransposedOperand> transposed;
  std::size_t scratch = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    TensorLayout& input = inputs[i];
    if (num_elements(input.shape) < kTransposeElements) continue;
    if (!StridedCopy::is_transposed(input.shape, input.strides)) continue;
    const Strides dense = contiguous_strides(input.shape);
    const StridedCopy copy(device, input.shape, input.strides, dense, size_of(input.dtype));
    transposed.push_back({i, copy, scratch});
    input.strides = dense;
    scratch += round_up(TensorSpec{input.shape, input.dtype}.bytes(), kScratchAlignment);
  }
  const ElementwiseLoop loop(inputs, request.outputs[0]);
  if (loop.count == 0) return make_gpu_kernel([](const KernelArguments&, Encoder&) {});
  ElementwiseSource source = write_elementwise(request.operation, loop);
  const Function& function = device.compile(source.name, source.text);
  const std::uint32_t threads = threads_for(loop.packets / source.in_flight, device.limits());
  const std::int64_t each = threads * static_cast<std::int64_t>(source.in_flight);
  const Grid grid{std::max(1u, groups_for(loop.packets, each))};
  return make_gpu_kernel(
      [&function, grid, threads, bytes = std::move(source.arguments),
       transposed = std::move(transposed)](const KernelArguments& arguments, Encoder& encoder) {
        std::vector<const void*> addresses = {arguments.outputs[0]};
        addresses.insert(addresses.end(), arguments.inputs.begin(), arguments.inputs.end());
        for (const TransposedOperand& operand : transposed) {
          void* copy = element_address(arguments.scratch,
                                       static_cast<std::int64_t>(operand.scratch_offset), 1);
          operand.copy.encode(encoder, arguments.inputs[operand.index], copy);
          addresses[operand.index + 1] = copy;
        }
        std::vector<std::byte> filled = bytes;
        std::memcpy(filled.data(), addresses.data(), addresses.size() * sizeof(void*));
        encoder.dispatch_bytes(function, grid, threads, 0, filled.data(), filled.size());
      },
      scratch);
}

std::unique_ptr<Kernel> make_copy(const KernelRequest& request, GpuDevice& device) {
  const TensorLayout& output = request.outputs[0];
  const StridedView view = view_of(request.operation, request.inputs[0], output.shape);
  const std::size_t bytes = size_of(output.dtype);
  const StridedCopy copy(device, view.shape, view.strides, contiguous_strides(view.shape), bytes);
  return make_gpu_kernel(
      [copy, bytes, offset = view.offset](const KernelArguments& arguments, Encoder& encoder) {
        const void* in = element_address(arguments.inputs[0], offset, bytes);
        if (in != arguments.outputs[0]) copy.encode(encoder, in, arguments.outputs[0]);
      });
}

bool computes(const Operation& operation) {
  return is_elementwise(operation) || std::holds_alternative<op::Arange>(operation);
}

}  // namespace

std::unique_ptr<Kernel> make_elementwise(const KernelRequest& request, GpuDevice& device) {
  if (computes(request.operation)) return make_generated(request, device);
  return make_copy(request, device);
}

}  // namespace metal_candle::backend::gpu
