// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Elementwise operations, by kernels that are generated for them (elementwise_source.h) and, while
// those are being compiled, by one that interprets them (element_program.h); and copies of views.
// Inputs: kAny. The output may overwrite an input that lies as it does.
#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "metal_candle/backend/gpu/element_program.h"
#include "metal_candle/backend/gpu/elementwise_source.h"
#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/strided_copy.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::gpu {
namespace {

// Groups of the most threads while there are enough for the device, then smaller ones.
std::uint32_t threads_for(std::int64_t packets, const DeviceLimits& limits) {
  std::uint32_t threads = kElementwiseThreads;
  const std::int64_t enough = 2 * static_cast<std::int64_t>(limits.multiprocessors);
  while (threads > 64 && packets / threads < enough) threads /= 2;
  return threads;
}

class ElementwiseKernel final : public GpuKernel {
 public:
  ElementwiseKernel(const Operation& operation, ElementwiseLoop loop, TransposedOperands transposed,
                    GpuDevice& device)
      : operation_(operation),
        loop_(std::move(loop)),
        transposed_(std::move(transposed)),
        device_(device),
        program_(ElementProgram::make(operation_, loop_)) {
    scratch_bytes_ = transposed_.scratch_bytes();
    ElementwiseSource source = write_elementwise(operation, loop_);
    aligned_ = compile(source);
    arguments_ = std::move(source.arguments);
    threads_ = threads_for(loop_.packets / source.in_flight, device.limits());
    const std::int64_t each = threads_ * static_cast<std::int64_t>(source.in_flight);
    grid_ = {std::max(1u, groups_for(loop_.packets, each))};
  }

  void encode(const KernelArguments& arguments, Encoder& encoder) const override {
    std::vector<const void*> addresses = {arguments.outputs[0]};
    addresses.insert(addresses.end(), arguments.inputs.begin(), arguments.inputs.end());
    transposed_.encode(encoder, std::span(addresses).subspan(1), arguments.scratch);
    const Function* function = (loop_.is_aligned(addresses) ? *aligned_ : unaligned()).get();
    if (function == nullptr) return program_->encode(device_, addresses, encoder);
    std::vector<std::byte> filled = arguments_;
    std::memcpy(filled.data(), addresses.data(), addresses.size() * sizeof(void*));
    encoder.dispatch_bytes(*function, grid_, threads_, 0, filled.data(), filled.size());
  }

 private:
  using Pending = std::shared_ptr<const PendingFunction>;

  [[nodiscard]] Pending compile(const ElementwiseSource& source) const {
    if (program_) return device_.compile_later(source.name, source.text);
    auto pending = std::make_shared<PendingFunction>();
    pending->deliver(device_.compile(source.name, source.text));
    return pending;
  }

  // Compiled when it is first needed.
  [[nodiscard]] const PendingFunction& unaligned() const {
    std::call_once(unaligned_wanted_,
                   [&] { unaligned_ = compile(write_elementwise(operation_, loop_, false)); });
    return *unaligned_;
  }

  const Operation operation_;
  const ElementwiseLoop loop_;
  const TransposedOperands transposed_;
  GpuDevice& device_;
  const std::optional<ElementProgram> program_;  // What runs until there is a compiled form.
  Pending aligned_;
  mutable std::once_flag unaligned_wanted_;
  mutable Pending unaligned_;
  std::vector<std::byte> arguments_;
  std::uint32_t threads_ = 0;
  Grid grid_;
};

std::unique_ptr<Kernel> make_generated(const KernelRequest& request, GpuDevice& device) {
  std::vector<TensorLayout> inputs(request.inputs.begin(), request.inputs.end());
  TransposedOperands transposed;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    TensorLayout& input = inputs[i];
    if (transposed.add_if_worth_it(device, i, input.shape, input.strides, input.dtype)) {
      input.strides = contiguous_strides(input.shape);
    }
  }
  ElementwiseLoop loop(inputs, request.outputs[0]);
  if (loop.count == 0) return make_gpu_kernel([](const KernelArguments&, Encoder&) {});
  return std::make_unique<ElementwiseKernel>(request.operation, std::move(loop),
                                             std::move(transposed), device);
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
