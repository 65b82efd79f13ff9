// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a CPU kernel is, and the table of what the CPU has kernels for: one make_*() a family of
// operations, each in the file named after the family.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "metal_candle/backend/backend.h"

namespace metal_candle::backend::cpu {

/// Addresses of one run. Outputs that are not needed are null.
struct KernelArguments {
  std::span<const void* const> inputs;
  std::span<void* const> outputs;
  void* scratch = nullptr;  // 64-byte aligned, scratch_bytes() long.
};

class CpuKernel : public Kernel {
 public:
  /// Computes on the calling thread and, through parallel_for(), on the others. May throw
  /// DeviceError (an index out of range).
  virtual void run(const KernelArguments& arguments) const = 0;
};

/// Makes a kernel of a callable that takes `const KernelArguments&`.
template <typename Fn>
std::unique_ptr<Kernel> make_cpu_kernel(Fn fn, std::size_t scratch_bytes = 0) {
  class FunctionKernel final : public CpuKernel {
   public:
    FunctionKernel(Fn fn, std::size_t scratch) : fn_(std::move(fn)) { scratch_bytes_ = scratch; }
    void run(const KernelArguments& arguments) const override { fn_(arguments); }

   private:
    Fn fn_;
  };
  return std::make_unique<FunctionKernel>(std::move(fn), scratch_bytes);
}

// Each returns the kernel for a request whose operation is of its family.
std::unique_ptr<Kernel> make_elementwise(
    const KernelRequest& request);  // Full, Arange, Unary, Binary, Select,
                                    // Cast, SwiGlu, Elementwise.
std::unique_ptr<Kernel> make_elementwise_reduce(const KernelRequest& request);
std::unique_ptr<Kernel> make_copy(
    const KernelRequest& request);  // Any strides to contiguous, one dtype:
                                    // Identity, Reshape, Transpose, Slice, Broadcast...
std::unique_ptr<Kernel> make_concatenate(const KernelRequest& request);  // Concatenate, Pad.
std::unique_ptr<Kernel> make_random(const KernelRequest& request);       // RandomBits.
std::unique_ptr<Kernel> make_reduce(
    const KernelRequest& request);                                 // Reduce, ArgReduce, Cumulative.
std::unique_ptr<Kernel> make_sort(const KernelRequest& request);   // Sort, ArgSort, ArgTopK.
std::unique_ptr<Kernel> make_index(const KernelRequest& request);  // Take ... DynamicSliceUpdate.
std::unique_ptr<Kernel> make_softmax(
    const KernelRequest& request);  // Softmax, LogSoftmax, LogSumExp,
                                    // SoftmaxBackward, CrossEntropy, its backward.
std::unique_ptr<Kernel> make_top_p(const KernelRequest& request);  // TopPThreshold.
std::unique_ptr<Kernel> make_swiglu_backward(const KernelRequest& request);
std::unique_ptr<Kernel> make_norm(
    const KernelRequest& request);  // RmsNorm, LayerNorm and their backwards.
std::unique_ptr<Kernel> make_rope(const KernelRequest& request);
std::unique_ptr<Kernel> make_matmul(const KernelRequest& request);  // Matmul, Linear.
std::unique_ptr<Kernel> make_lora(const KernelRequest& request);    // Lora, LoraLinear.
std::unique_ptr<Kernel> make_attention(
    const KernelRequest& request);  // Attention, AttentionBackward.
std::unique_ptr<Kernel> make_linear_cross_entropy(
    const KernelRequest& request);  // And its backward.

}  // namespace metal_candle::backend::cpu
