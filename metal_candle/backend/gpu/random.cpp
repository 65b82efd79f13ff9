// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// RandomBits. Inputs: kAny.
#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"

namespace metal_candle::backend::gpu {

std::unique_ptr<Kernel> make_random(const KernelRequest& request, GpuDevice& device) {
  constexpr std::uint32_t kThreads = 256;
  constexpr std::int64_t kWords = 4;  // That a thread makes.
  const std::int64_t key_stride = request.inputs[0].strides[0];
  const std::int64_t count = num_elements(request.outputs[0].shape);
  const Function& function = device.function("random_bits_u32");
  return make_gpu_kernel([&function, key_stride, count](const KernelArguments& arguments,
                                                        Encoder& encoder) {
    encoder.dispatch(function, {groups_for(count, kThreads * kWords)}, kThreads,
                     RandomArguments{arguments.inputs[0], arguments.outputs[0], key_stride, count});
  });
}

}  // namespace metal_candle::backend::gpu
