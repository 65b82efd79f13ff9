// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See direct_kernel.h.
#include "bench/direct_kernel.h"

#include "metal_candle/backend/registry.h"

namespace metal_candle::bench {

DirectKernel::DirectKernel(const Operation& operation, const std::vector<Tensor>& inputs,
                           const std::vector<TensorSpec>& outputs)
    : inputs_(inputs) {
  std::vector<TensorLayout> input_layouts;
  std::vector<TensorLayout> output_layouts;
  for (const Tensor& input : inputs_) {
    const Value& value = input.node()->value();
    input_layouts.push_back({input.shape(), value.strides, input.dtype()});
    input_addresses_.push_back(static_cast<const std::byte*>(value.storage->contents()) +
                               value.offset);
  }
  for (const TensorSpec& output : outputs) {
    output_layouts.push_back(TensorLayout::contiguous(output));
    storages_.push_back(detail::allocate_storage(Device::cpu(), output.bytes()));
    output_addresses_.push_back(storages_.back()->contents());
  }
  const bool needed[] = {true, true, true};
  kernel_ = backend::backend_for(Device::cpu())
                .make_kernel({operation, input_layouts, output_layouts, {needed, outputs.size()}});
  if (kernel_->scratch_bytes() > 0) {
    storages_.push_back(detail::allocate_storage(Device::cpu(), kernel_->scratch_bytes()));
    scratch_ = storages_.back()->contents();
  }
}

void DirectKernel::run() const {
  static_cast<const backend::cpu::CpuKernel&>(*kernel_).run(
      {input_addresses_, output_addresses_, scratch_});
}

}  // namespace metal_candle::bench
