// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a GPU kernel is for the planner, and the table of what GPUs have kernels for: one make_*() a
// family of operations, each in the file named after the family.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "metal_candle/backend/backend.h"
#include "metal_candle/backend/gpu/gpu_device.h"

namespace metal_candle::backend::gpu {

/// Device addresses of one run. Outputs that are not needed are null.
struct KernelArguments {
  std::span<void* const> inputs;
  std::span<void* const> outputs;
  void* scratch = nullptr;  // 256-byte aligned, scratch_bytes() long.
};

class GpuKernel : public Kernel {
 public:
  /// Encodes the functions that compute the operation. The sequence of functions and grids is the
  /// same every time, as long as addresses are aligned alike; only addresses differ. But for what
  /// runs until a kernel has been compiled (GpuDevice::compile_later): results are the same.
  virtual void encode(const KernelArguments& arguments, Encoder& encoder) const = 0;
};

/// Makes a kernel of a callable that takes (const KernelArguments&, Encoder&).
template <typename Fn>
std::unique_ptr<Kernel> make_gpu_kernel(Fn fn, std::size_t scratch_bytes = 0) {
  class FunctionKernel final : public GpuKernel {
   public:
    FunctionKernel(Fn fn, std::size_t scratch) : fn_(std::move(fn)) { scratch_bytes_ = scratch; }
    void encode(const KernelArguments& arguments, Encoder& encoder) const override {
      fn_(arguments, encoder);
    }

   private:
    Fn fn_;
  };
  return std::make_unique<FunctionKernel>(std::move(fn), scratch_bytes);
}

// Each returns the kernel for a request whose operation is of its family.
// Full, Arange, Unary, Binary, Select, Cast, SwiGlu, Elementwise; and any strides to contiguous:
// Identity, Reshape, Transpose, Slice, Broadcast...
std::unique_ptr<Kernel> make_elementwise(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_concatenate(const KernelRequest& request,
                                         GpuDevice& device);  // Concatenate, Pad.
std::unique_ptr<Kernel> make_random(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_reduce(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_elementwise_reduce(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_arg_reduce(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_cumulative(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_sort(const KernelRequest& request,
                                  GpuDevice& device);  // Sort, ArgSort, ArgTopK.
std::unique_ptr<Kernel> make_index(const KernelRequest& request,
                                   GpuDevice& device);  // Take ... DynamicSliceUpdate.
std::unique_ptr<Kernel> make_softmax(const KernelRequest& request,
                                     GpuDevice& device);  // Softmax, LogSoftmax, LogSumExp,
                                                          // SoftmaxBackward.
std::unique_ptr<Kernel> make_cross_entropy(const KernelRequest& request,
                                           GpuDevice& device);  // And its backward.
std::unique_ptr<Kernel> make_top_p(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_draw(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_norm(const KernelRequest& request,
                                  GpuDevice& device);  // RmsNorm, LayerNorm, their backwards.
std::unique_ptr<Kernel> make_rope(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_swiglu_backward(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_matmul(const KernelRequest& request,
                                    GpuDevice& device);  // Matmul, Linear.
std::unique_ptr<Kernel> make_product_sum(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_norm_linear(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_lora(const KernelRequest& request,
                                  GpuDevice& device);  // Lora, LoraLinear.
std::unique_ptr<Kernel> make_attention(const KernelRequest& request,
                                       GpuDevice& device);  // Attention, AttentionBackward.
std::unique_ptr<Kernel> make_cached_attention(const KernelRequest& request, GpuDevice& device);
std::unique_ptr<Kernel> make_linear_cross_entropy(const KernelRequest& request,
                                                  GpuDevice& device);  // And its backward.

}  // namespace metal_candle::backend::gpu
