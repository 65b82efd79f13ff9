// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What GPUs have kernels for, how they want their operands, and which file makes each.
#include "metal_candle/backend/gpu/gpu_backend.h"

#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/backend/gpu/attention.h"
#include "metal_candle/backend/gpu/cached_attention.h"
#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::gpu {
namespace {

using Maker = std::unique_ptr<Kernel> (*)(const KernelRequest&, GpuDevice&);

// The kernel family of each operation. An operation that is missing here does not compile; null
// means that it never reaches a backend: the planner resolves it, or it is decomposed.
constexpr Overload kFamilies{
    [](const op::Full&) -> Maker { return make_elementwise; },
    [](const op::Arange&) -> Maker { return make_elementwise; },
    [](const op::Unary&) -> Maker { return make_elementwise; },
    [](const op::Binary&) -> Maker { return make_elementwise; },
    [](const op::Select&) -> Maker { return make_elementwise; },
    [](const op::Cast&) -> Maker { return make_elementwise; },
    [](const op::SwiGlu&) -> Maker { return make_elementwise; },
    [](const op::SwiGluBackward&) -> Maker { return make_swiglu_backward; },
    [](const op::Elementwise&) -> Maker { return make_elementwise; },
    [](const op::ElementwiseReduce&) -> Maker { return make_elementwise_reduce; },
    [](const op::Reshape&) -> Maker { return make_elementwise; },
    [](const op::Transpose&) -> Maker { return make_elementwise; },
    [](const op::Slice&) -> Maker { return make_elementwise; },
    [](const op::Broadcast&) -> Maker { return make_elementwise; },
    [](const op::Identity&) -> Maker { return make_elementwise; },
    [](const op::StopGradient&) -> Maker { return make_elementwise; },
    [](const op::Barrier&) -> Maker { return make_elementwise; },
    [](const op::RandomBits&) -> Maker { return make_random; },
    [](const op::Reduce&) -> Maker { return make_reduce; },
    [](const op::ArgReduce&) -> Maker { return make_arg_reduce; },
    [](const op::Cumulative&) -> Maker { return make_cumulative; },
    [](const op::Sort&) -> Maker { return make_sort; },
    [](const op::ArgSort&) -> Maker { return make_sort; },
    [](const op::ArgTopK&) -> Maker { return make_sort; },
    [](const op::Matmul&) -> Maker { return make_matmul; },
    [](const op::Linear&) -> Maker { return make_matmul; },
    [](const op::ProductSum&) -> Maker { return make_product_sum; },
    [](const op::NormLinear&) -> Maker { return make_norm_linear; },
    [](const op::Pick&) -> Maker { return nullptr; },
    [](const op::CustomGradient&) -> Maker { return nullptr; },
    [](const op::Concatenate&) -> Maker { return make_concatenate; },
    [](const op::Pad&) -> Maker { return make_concatenate; },
    [](const op::Take&) -> Maker { return make_index; },
    [](const op::TakeAlongAxis&) -> Maker { return make_index; },
    [](const op::ScatterAdd&) -> Maker { return make_index; },
    [](const op::ScatterAddAlongAxis&) -> Maker { return make_index; },
    [](const op::SliceUpdate&) -> Maker { return make_index; },
    [](const op::DynamicSlice&) -> Maker { return make_index; },
    [](const op::DynamicSliceUpdate&) -> Maker { return make_index; },
    [](const op::Softmax&) -> Maker { return make_softmax; },
    [](const op::LogSoftmax&) -> Maker { return make_softmax; },
    [](const op::LogSumExp&) -> Maker { return make_softmax; },
    [](const op::SoftmaxBackward&) -> Maker { return make_softmax; },
    [](const op::TopPThreshold&) -> Maker { return make_top_p; },
    [](const op::Draw&) -> Maker { return make_draw; },
    [](const op::CrossEntropy&) -> Maker { return make_cross_entropy; },
    [](const op::CrossEntropyBackward&) -> Maker { return make_cross_entropy; },
    [](const op::RmsNorm&) -> Maker { return make_norm; },
    [](const op::RmsNormBackward&) -> Maker { return make_norm; },
    [](const op::LayerNorm&) -> Maker { return make_norm; },
    [](const op::LayerNormBackward&) -> Maker { return make_norm; },
    [](const op::Rope&) -> Maker { return make_rope; },
    [](const op::Lora&) -> Maker { return make_lora; },
    [](const op::LoraLinear&) -> Maker { return make_lora; },
    [](const op::Attention&) -> Maker { return make_attention; },
    [](const op::AttentionBackward&) -> Maker { return make_attention; },
    [](const op::CachedAttention&) -> Maker { return make_cached_attention; },
    [](const op::LinearCrossEntropy&) -> Maker { return make_linear_cross_entropy; },
    [](const op::LinearCrossEntropyBackward&) -> Maker { return make_linear_cross_entropy; },
};

Maker family(const Operation& operation) { return std::visit(kFamilies, operation); }

}  // namespace

bool GpuBackend::supports(const Operation& operation, std::span<const TensorSpec> inputs) const {
  // Every kernel takes every dtype that the shape rules let through.
  const bool attention = std::holds_alternative<op::Attention>(operation) ||
                         std::holds_alternative<op::AttentionBackward>(operation);
  if (attention && std::max(inputs[0].shape.back(), inputs[2].shape.back()) > kMaxAttentionWidth) {
    return false;
  }
  if (const auto* cached = std::get_if<op::CachedAttention>(&operation)) {
    return suits_cached_attention(*cached, inputs, gpu().limits());
  }
  return family(operation) != nullptr;
}

// As the head of each kernel's file says.
InputLayout GpuBackend::input_layout(const Operation& operation, int input) const {
  using enum InputLayout;
  return std::visit(
      Overload{
          [&](const op::Reduce&) { return kAny; },
          [&](const op::ElementwiseReduce&) { return kAny; },
          [&](const op::Matmul&) { return kMatrix; },
          [&](const op::Linear&) { return input < 2 ? kMatrix : kContiguous; },
          [&](const op::ProductSum& o) {
            return input < 2 * o.count && input % 2 == 1 ? kMatrix : kContiguous;
          },
          [&](const op::SwiGluBackward&) { return input == 3 ? kMatrix : kContiguous; },
          [&](const op::NormLinear& o) {
            return input == 2 || (o.gated && input == 3) ? kMatrix : kContiguous;
          },
          [&](const op::Lora&) { return input == 0 ? kContiguous : kMatrix; },
          [&](const op::LoraLinear&) { return input >= 1 && input < 4 ? kMatrix : kContiguous; },
          [&](const op::LinearCrossEntropy&) { return input == 1 ? kMatrix : kContiguous; },
          [&](const op::LinearCrossEntropyBackward&) { return input == 1 ? kMatrix : kContiguous; },
          [&](const op::Attention&) { return input < 3 ? kDenseRows : kAny; },
          [&](const op::AttentionBackward&) {
            if (input == 4) return kContiguous;
            return input < 6 ? kDenseRows : kAny;
          },
          [&](const op::ArgReduce&) { return kDenseRows; },
          [&](const op::Cumulative&) { return kDenseRows; },
          [&](const op::Sort&) { return kDenseRows; },
          [&](const op::ArgSort&) { return kDenseRows; },
          [&](const op::ArgTopK&) { return kDenseRows; },
          [&](const op::CrossEntropy&) { return input == 0 ? kDenseRows : kContiguous; },
          [&](const op::CrossEntropyBackward&) { return input == 0 ? kDenseRows : kContiguous; },
          [&](const op::Softmax&) { return kDenseRows; },
          [&](const op::LogSoftmax&) { return kDenseRows; },
          [&](const op::LogSumExp&) { return kDenseRows; },
          [&](const op::SoftmaxBackward&) { return kDenseRows; },
          [&](const op::RmsNorm&) { return input == 0 ? kDenseRows : kContiguous; },
          [&](const op::LayerNorm&) { return input == 0 ? kDenseRows : kContiguous; },
          [&](const op::RmsNormBackward&) { return input == 3 ? kContiguous : kDenseRows; },
          [&](const op::LayerNormBackward&) { return kDenseRows; },
          [&](const op::Rope&) { return input == 0 ? kDenseRows : kContiguous; },
          [&](const op::SliceUpdate&) { return kAny; },
          [&](const op::DynamicSlice&) { return input == 0 ? kAny : kContiguous; },
          [&](const op::RandomBits&) { return kAny; },
          [&](const op::DynamicSliceUpdate&) { return input < 2 ? kAny : kContiguous; },
          [&](const auto&) {
            const Maker maker = family(operation);
            return maker == make_elementwise || maker == make_concatenate ? kAny : kContiguous;
          },
      },
      operation);
}

bool GpuBackend::can_run_in_place(const Operation& operation, int input, int output) const {
  if (std::holds_alternative<op::CachedAttention>(operation)) {
    return (input == 3 && output == 1) || (input == 4 && output == 2);
  }
  if (std::holds_alternative<op::SwiGluBackward>(operation)) return input == output;
  if (output != 0) return false;
  return std::visit(Overload{
                        [&](const op::Cumulative&) { return true; },
                        [&](const op::Softmax&) { return true; },
                        [&](const op::LogSoftmax&) { return true; },
                        [&](const op::SoftmaxBackward&) { return true; },
                        [&](const op::CrossEntropyBackward&) { return input == 0; },
                        [&](const op::RmsNorm&) { return input == 0; },
                        [&](const op::LayerNorm&) { return input == 0; },
                        [&](const op::RmsNormBackward&) { return true; },
                        [&](const op::LayerNormBackward&) { return true; },
                        [&](const op::Rope&) { return input == 0; },
                        [&](const op::ScatterAdd&) { return input == 0; },
                        [&](const op::ScatterAddAlongAxis&) { return input == 0; },
                        [&](const op::SliceUpdate&) { return input == 0; },
                        [&](const op::DynamicSliceUpdate&) { return input == 0; },
                        [&](const auto&) { return is_elementwise(operation); },
                    },
                    operation);
}

bool GpuBackend::writes_rows_anywhere(const Operation& operation, int output) const {
  if (std::holds_alternative<op::AttentionBackward>(operation)) return output == 2;
  return output == 0 && (std::holds_alternative<op::Attention>(operation) ||
                         std::holds_alternative<op::Rope>(operation));
}

std::unique_ptr<Kernel> GpuBackend::make_kernel(const KernelRequest& request) const {
  const Maker maker = family(request.operation);
  if (maker == nullptr) {
    throw DeviceError(
        fmt::format("{}: no kernel for {}", to_string(device()), name(request.operation)));
  }
  return maker(request, gpu());
}

}  // namespace metal_candle::backend::gpu
