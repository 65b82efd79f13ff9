// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the CPU has kernels for, how they want their operands, and which file makes each.
#include "metal_candle/backend/cpu/cpu_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "metal_candle/backend/tuning.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {
namespace {

using Maker = std::unique_ptr<Kernel> (*)(const KernelRequest&);

// The kernel family of each operation. An operation that is missing here does not compile; null
// means that it never reaches a backend: the planner resolves it.
constexpr Overload kFamilies{
    [](const op::Full&) -> Maker { return make_elementwise; },
    [](const op::Arange&) -> Maker { return make_elementwise; },
    [](const op::Unary&) -> Maker { return make_elementwise; },
    [](const op::Binary&) -> Maker { return make_elementwise; },
    [](const op::Select&) -> Maker { return make_elementwise; },
    [](const op::Cast&) -> Maker { return make_elementwise; },
    [](const op::SwiGlu&) -> Maker { return make_elementwise; },
    [](const op::SwiGluBackward& o) -> Maker {
      return o.of_product ? nullptr : make_swiglu_backward;
    },
    [](const op::Elementwise&) -> Maker { return make_elementwise; },
    [](const op::ElementwiseReduce&) -> Maker { return make_elementwise_reduce; },
    [](const op::RandomBits&) -> Maker { return make_random; },
    [](const op::Reduce&) -> Maker { return make_reduce; },
    [](const op::ArgReduce&) -> Maker { return make_reduce; },
    [](const op::Cumulative&) -> Maker { return make_reduce; },
    [](const op::Sort&) -> Maker { return make_sort; },
    [](const op::ArgSort&) -> Maker { return make_sort; },
    [](const op::ArgTopK&) -> Maker { return make_sort; },
    [](const op::Matmul&) -> Maker { return make_matmul; },
    [](const op::Linear&) -> Maker { return make_matmul; },
    [](const op::ProductSum&) -> Maker { return nullptr; },
    [](const op::NormLinear&) -> Maker { return nullptr; },
    [](const op::Reshape&) -> Maker { return make_copy; },
    [](const op::Transpose&) -> Maker { return make_copy; },
    [](const op::Slice&) -> Maker { return make_copy; },
    [](const op::Broadcast&) -> Maker { return make_copy; },
    [](const op::Identity&) -> Maker { return make_copy; },
    [](const op::StopGradient&) -> Maker { return make_copy; },
    [](const op::Barrier&) -> Maker { return make_copy; },
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
    [](const op::TopPThreshold&) -> Maker { return make_top_p; },
    [](const op::Draw&) -> Maker { return nullptr; },
    [](const op::SoftmaxBackward&) -> Maker { return make_softmax; },
    [](const op::CrossEntropy&) -> Maker { return make_softmax; },
    [](const op::CrossEntropyBackward&) -> Maker { return make_softmax; },
    [](const op::RmsNorm&) -> Maker { return make_norm; },
    [](const op::RmsNormBackward&) -> Maker { return make_norm; },
    [](const op::LayerNorm&) -> Maker { return make_norm; },
    [](const op::LayerNormBackward&) -> Maker { return make_norm; },
    [](const op::Rope&) -> Maker { return make_rope; },
    [](const op::Lora&) -> Maker { return make_lora; },
    [](const op::LoraLinear&) -> Maker { return make_lora; },
    [](const op::Attention&) -> Maker { return make_attention; },
    [](const op::AttentionBackward&) -> Maker { return make_attention; },
    [](const op::CachedAttention&) -> Maker { return nullptr; },
    [](const op::LinearCrossEntropy&) -> Maker { return make_linear_cross_entropy; },
    [](const op::LinearCrossEntropyBackward&) -> Maker { return make_linear_cross_entropy; },
};

Maker family(const Operation& operation) { return std::visit(kFamilies, operation); }

}  // namespace

bool CpuBackend::supports(const Operation& operation, std::span<const TensorSpec> inputs) const {
  (void)inputs;  // Every kernel takes every dtype that the shape rules let through.
  return family(operation) != nullptr;
}

// As the head of each kernel's file says.
InputLayout CpuBackend::input_layout(const Operation& operation, int input) const {
  using enum InputLayout;
  // The operands that have rows, among others that are small and dense.
  const auto rows = [&](int count) { return input < count ? kDenseRows : kContiguous; };
  return std::visit(
      Overload{
          [&](const op::Reduce&) { return kAny; },
          [&](const op::ArgReduce&) { return kDenseRows; },
          [&](const op::Cumulative&) { return kDenseRows; },
          [&](const op::Sort&) { return kDenseRows; },
          [&](const op::ArgSort&) { return kDenseRows; },
          [&](const op::ArgTopK&) { return kDenseRows; },
          [&](const op::Matmul&) { return kMatrix; },
          [&](const op::Linear& linear) {
            if (input < 2) return kMatrix;
            return linear.has_bias && input == 2 ? kAny : kDenseRows;
          },
          [&](const op::Lora&) { return kMatrix; },
          [&](const op::LoraLinear&) { return input < 4 ? kMatrix : kAny; },
          [&](const op::LinearCrossEntropy&) { return input < 2 ? kMatrix : kContiguous; },
          [&](const op::LinearCrossEntropyBackward&) { return input < 2 ? kMatrix : kContiguous; },
          [&](const op::Attention&) { return input < 3 ? kDenseRows : kAny; },
          [&](const op::AttentionBackward&) {
            if (input == 4) return kContiguous;
            return input < 6 ? kDenseRows : kAny;
          },
          [&](const op::Softmax&) { return kDenseRows; },
          [&](const op::LogSoftmax&) { return kDenseRows; },
          [&](const op::LogSumExp&) { return kDenseRows; },
          [&](const op::SoftmaxBackward&) { return kDenseRows; },
          [&](const op::CrossEntropy&) { return rows(1); },
          [&](const op::CrossEntropyBackward&) { return rows(1); },
          [&](const op::Rope&) { return rows(1); },
          [&](const op::RmsNorm&) { return rows(1); },
          [&](const op::LayerNorm&) { return rows(1); },
          // (x, weight?, dy, residual?).
          [&](const op::RmsNormBackward&) {
            return input == 1 || input == 3 ? kContiguous : kDenseRows;
          },
          [&](const op::LayerNormBackward&) { return input == 1 ? kContiguous : kDenseRows; },
          [&](const op::SliceUpdate&) { return kAny; },
          [&](const op::DynamicSliceUpdate&) { return input < 2 ? kAny : kContiguous; },
          [&](const auto&) {
            const Maker maker = family(operation);
            return maker == make_elementwise || maker == make_elementwise_reduce ||
                           maker == make_copy || maker == make_concatenate
                       ? kAny
                       : kContiguous;
          },
      },
      operation);
}

void CpuBackend::write(Buffer& buffer, std::size_t offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  std::memcpy(static_cast<std::byte*>(buffer.contents()) + offset, bytes.data(), bytes.size());
}

void CpuBackend::read(const Buffer& buffer, std::size_t offset, std::span<std::byte> bytes) {
  if (bytes.empty()) return;
  std::memcpy(bytes.data(), static_cast<std::byte*>(buffer.contents()) + offset, bytes.size());
}

BufferPtr CpuBackend::borrow(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  class BorrowedBuffer final : public Buffer {
   public:
    BorrowedBuffer(std::span<const std::byte> borrowed, std::shared_ptr<const void> owner)
        // Its storage says that nobody writes to it.
        : Buffer(const_cast<std::byte*>(borrowed.data()), borrowed.size()),
          owner_(std::move(owner)) {}

   private:
    std::shared_ptr<const void> owner_;
  };
  return BufferPtr(new BorrowedBuffer(bytes, std::move(owner)));
}

bool CpuBackend::can_run_in_place(const Operation& operation, int input, int output) const {
  if (std::holds_alternative<op::SwiGluBackward>(operation)) return input == output;
  if (output != 0) return false;
  return std::visit(Overload{
                        [&](const op::Softmax&) { return true; },
                        [&](const op::LogSoftmax&) { return true; },
                        [&](const op::SoftmaxBackward&) { return input == 0; },
                        [&](const op::CrossEntropyBackward&) { return input == 0; },
                        [&](const op::RmsNorm&) { return input == 0; },
                        [&](const op::LayerNorm&) { return input == 0; },
                        [&](const op::Rope&) { return input == 0; },
                        [&](const op::Cumulative&) { return input == 0; },
                        [&](const op::Sort&) { return input == 0; },
                        [&](const op::ScatterAdd&) { return input == 0; },
                        [&](const op::ScatterAddAlongAxis&) { return input == 0; },
                        [&](const op::SliceUpdate&) { return input == 0; },
                        [&](const op::DynamicSliceUpdate&) { return input == 0; },
                        [&](const op::Linear& linear) {
                          return linear.has_residual &&
                                 input == 2 + static_cast<int>(linear.has_bias);
                        },
                        [&](const auto&) { return family(operation) == make_elementwise; },
                    },
                    operation);
}

std::unique_ptr<Kernel> CpuBackend::make_kernel(const KernelRequest& request) const {
  const Maker maker = family(request.operation);
  if (maker == nullptr) {
    throw DeviceError(fmt::format("cpu: no kernel for {}", name(request.operation)));
  }
  return maker(request);
}

CommandQueue& CpuBackend::queue(int index) {
  const std::lock_guard lock(queues_mutex_);
  std::unique_ptr<CpuQueue>& queue = queues_.at(static_cast<std::size_t>(index));
  if (!queue) queue = std::make_unique<CpuQueue>(index, pool_);
  return *queue;
}

std::size_t CpuBackend::steps_per_command_buffer() const {
  return static_cast<std::size_t>(std::max<std::int64_t>(
      tuning(Device::cpu()).get(Tunable::kStepsPerBuffer, ShapeClass{}, kStepsPerBuffer), 1));
}

void CpuBackend::stop() {
  const std::lock_guard lock(queues_mutex_);
  for (const auto& queue : queues_) {
    if (queue) queue->stop();
  }
}

CpuBackend& cpu_backend_instance() {
  static auto* instance = new CpuBackend;
  return *instance;
}

Backend& cpu_backend();
Backend& cpu_backend() { return cpu_backend_instance(); }

}  // namespace metal_candle::backend::cpu
