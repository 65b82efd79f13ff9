// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// ElementwiseReduce, by kernels that are generated for it (reduce_source.h). Inputs: kAny.
#include <atomic>
#include <cstring>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/reduce_source.h"
#include "metal_candle/backend/gpu/strided_copy.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::gpu {
namespace {

class ElementwiseReduceKernel final : public GpuKernel {
 public:
  ElementwiseReduceKernel(op::ElementwiseReduce operation, ReduceLoop loop,
                          TransposedOperands transposed, GpuDevice& device)
      : operation_(std::move(operation)),
        loop_(std::move(loop)),
        transposed_(std::move(transposed)),
        device_(device),
        grid_(make_grid()),
        finish_(device, loop_.kind, loop_.dtype, loop_.outputs, chunks()),
        partials_offset_(transposed_.scratch_bytes()) {
    scratch_bytes_ = partials_offset_ + finish_.partial_bytes();
    ReduceSource source = write(true);
    aligned_ = &device.compile(source.name, source.text);
    arguments_ = std::move(source.arguments);
  }

  void encode(const KernelArguments& run, Encoder& encoder) const override {
    std::vector<const void*> addresses = {run.outputs[0]};
    addresses.insert(addresses.end(), run.inputs.begin(), run.inputs.end());
    const std::span<const void*> inputs = std::span(addresses).subspan(1);
    transposed_.encode(encoder, inputs, run.scratch);
    void* const partials =
        element_address(run.scratch, static_cast<std::int64_t>(partials_offset_), 1);
    const bool is_cut = chunks() > 1;
    if (is_cut) addresses[0] = partials;
    const Function& function = loop_.is_aligned(inputs) ? *aligned_ : unaligned();
    std::vector<std::byte> filled = arguments_;
    std::memcpy(filled.data(), addresses.data(), addresses.size() * sizeof(void*));
    const Grid grid{std::visit([](const auto& g) { return g.groups; }, grid_)};
    const auto* rows = std::get_if<RowsGrid>(&grid_);
    encoder.dispatch_bytes(function, grid, rows ? rows->threads : kReduceThreads, 0, filled.data(),
                           filled.size());
    if (is_cut) finish_.encode(encoder, partials, run.outputs[0]);
  }

 private:
  using AnyGrid = std::variant<RowsGrid, ColumnsGrid>;

  [[nodiscard]] AnyGrid make_grid() const {
    const std::int64_t reduced = num_elements(loop_.reduced);
    if (loop_.by_columns) {
      return columns_grid(device_, loop_.dtype, num_elements(loop_.kept), loop_.columns,
                          loop_.packet, reduced);
    }
    return rows_grid(device_, loop_.dtype, loop_.outputs, reduced / loop_.packet);
  }
  [[nodiscard]] std::uint32_t chunks() const {
    return std::visit([](const auto& g) { return g.chunks; }, grid_);
  }
  [[nodiscard]] ReduceSource write(bool aligned) const {
    return std::visit(
        [&](const auto& grid) { return write_reduce(operation_, loop_, grid, aligned); }, grid_);
  }

  // Compiled when it is first needed.
  const Function& unaligned() const {
    const Function* function = unaligned_.load(std::memory_order_acquire);
    if (function == nullptr) {
      const ReduceSource source = write(false);
      function = &device_.compile(source.name, source.text);
      unaligned_.store(function, std::memory_order_release);
    }
    return *function;
  }

  const op::ElementwiseReduce operation_;
  const ReduceLoop loop_;
  const TransposedOperands transposed_;
  GpuDevice& device_;
  const AnyGrid grid_;
  const PartialReduction finish_;
  const std::size_t partials_offset_;
  const Function* aligned_ = nullptr;
  mutable std::atomic<const Function*> unaligned_{nullptr};
  std::vector<std::byte> arguments_;
};

}  // namespace

std::unique_ptr<Kernel> make_elementwise_reduce(const KernelRequest& request, GpuDevice& device) {
  const auto& operation = std::get<op::ElementwiseReduce>(request.operation);
  Shape shape;
  for (const TensorLayout& input : request.inputs) {
    shape = broadcast_shapes("elementwise_reduce", shape, input.shape);
  }
  ReduceLoop loop(request.inputs, shape, operation.elementwise.program->instructions.back().dtype,
                  operation.reduce);
  if (loop.outputs == 0) return make_gpu_kernel([](const KernelArguments&, Encoder&) {});
  TransposedOperands transposed;
  for (std::size_t k = 0; k < loop.operands.size(); ++k) {
    const ReduceLoop::Walk walk = loop.walk(k);
    if (transposed.add_if_worth_it(device, k, walk.shape, walk.strides, loop.operands[k].dtype)) {
      loop.make_dense(k);
    }
  }
  loop.choose_packets();
  return std::make_unique<ElementwiseReduceKernel>(operation, std::move(loop),
                                                   std::move(transposed), device);
}

}  // namespace metal_candle::backend::gpu
