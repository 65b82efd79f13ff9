// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// LinearCrossEntropy and its backward: some rows at a time, all of their logits are made by the
// library's product, turned into losses and derivatives by one kernel, and multiplied back. So
// memory is bounded, and the products are large enough to run at the device's rate. Logits are
// rounded to the type of x, as they are where a model's output is a tensor, and derivatives, in
// which the library multiplies them, too; those take the place of the logits. Between the two
// everything is f32.
//
// Inputs: x and targets kContiguous, weight kMatrix, logsumexp and dloss kContiguous.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "metal_candle/backend/batch.h"
#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kThreads = 1024;  // kLossThreads of kernels/linear_cross_entropy.h.
// Of logits: 512 rows of 150,000 classes in 16 bits. With half as many the products are bound by
// reading the weight; memory for more is what a training step would need most with.
constexpr std::int64_t kMaxBlockBytes = std::int64_t{160} << 20;
constexpr std::size_t kScratchAlignment = 256;

// Sizes and where things lie in scratch.
struct LossPlan {
  std::int64_t rows = 0, width = 0, classes = 0;
  std::int64_t stride = 0;    // Of a row of logits or derivatives, in elements.
  std::int64_t block = 0;     // Rows at a time.
  DType dtype = DType::kF32;  // Of x, weight, logits and derivatives.
  std::int64_t weight_row_stride = 0, weight_column_stride = 0;
  std::int64_t ignore_index = 0;
  bool wide_targets = false;

  [[nodiscard]] std::size_t logits_bytes() const {
    return round_up(static_cast<std::size_t>(block * stride) * size_of(dtype), kScratchAlignment);
  }
};

LossPlan make_plan(const KernelRequest& request, std::int64_t ignore_index) {
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& weight = request.inputs[1];
  LossPlan plan;
  plan.width = x.shape.back();
  plan.rows = num_elements(leading(x.shape, 1));
  plan.classes = weight.shape.back();
  plan.stride = (plan.classes + 7) / 8 * 8;
  plan.dtype = x.dtype;
  plan.weight_row_stride = weight.strides[0];
  plan.weight_column_stride = weight.strides[1];
  plan.ignore_index = ignore_index;
  plan.wide_targets = request.inputs[2].dtype == DType::kI64;
  const std::int64_t row_bytes = plan.stride * static_cast<std::int64_t>(size_of(plan.dtype));
  const std::int64_t most = std::max<std::int64_t>(128, kMaxBlockBytes / row_bytes / 128 * 128);
  plan.block = std::clamp<std::int64_t>(plan.rows, 1, most);
  return plan;
}

// The products over a block of some rows.
struct BlockProducts {
  std::shared_ptr<const Matmul> logits;   // x @ weight
  std::shared_ptr<const Matmul> dx;       // derivatives @ weight^T
  std::shared_ptr<const Matmul> dweight;  // x^T @ derivatives, added up in f32

  [[nodiscard]] std::size_t scratch_bytes() const {
    std::size_t most = 0;
    for (const auto* product : {&logits, &dx, &dweight}) {
      if (*product) most = std::max(most, (*product)->scratch_bytes());
    }
    return most;
  }
};

BlockProducts make_products(const LossPlan& plan, std::int64_t rows, bool wants_dx,
                            bool wants_dweight, GpuDevice& device) {
  BlockProducts products;
  MatmulDescription d;
  d.m = rows;
  d.n = plan.classes;
  d.k = plan.width;
  d.a = {plan.width, 1, 0};
  d.b = {plan.weight_row_stride, plan.weight_column_stride, 0};
  d.out_row_stride = plan.stride;
  d.operands = plan.dtype;
  d.out = plan.dtype;
  products.logits = require_matmul(device, d, "linear_cross_entropy");
  if (wants_dx) {
    d.n = plan.width;
    d.k = plan.classes;
    d.a = {plan.stride, 1, 0};
    d.b = {plan.weight_column_stride, plan.weight_row_stride, 0};
    d.out_row_stride = plan.width;
    products.dx = require_matmul(device, d, "linear_cross_entropy");
  }
  if (wants_dweight) {
    d.m = plan.width;
    d.n = plan.classes;
    d.k = rows;
    d.a = {1, plan.width, 0};
    d.b = {plan.stride, 1, 0};
    d.out_row_stride = plan.classes;
    d.out = DType::kF32;
    d.beta = 1;
    products.dweight = require_matmul(device, d, "linear_cross_entropy");
  }
  return products;
}

// The blocks of rows: all of one size but perhaps the last.
struct Blocks {
  LossPlan plan;
  BlockProducts whole, last;

  Blocks(const LossPlan& loss_plan, bool wants_dx, bool wants_dweight, GpuDevice& device)
      : plan(loss_plan) {
    whole = make_products(plan, plan.block, wants_dx, wants_dweight, device);
    if (const std::int64_t rest = plan.rows % plan.block; rest != 0) {
      last = make_products(plan, rest, wants_dx, wants_dweight, device);
    }
  }
  [[nodiscard]] std::size_t scratch_bytes() const {
    return plan.logits_bytes() + std::max(whole.scratch_bytes(), last.scratch_bytes());
  }
  /// Calls fn(products, first row, rows).
  template <typename Fn>
  void for_each(Fn fn) const {
    for (std::int64_t row = 0; row < plan.rows; row += plan.block) {
      const std::int64_t rows = std::min(plan.block, plan.rows - row);
      fn(rows == plan.block ? whole : last, row, rows);
    }
  }
};

// Addresses of one run.
struct Scratch {
  void* logits;  // And derivatives.
  void* library;

  Scratch(const LossPlan& plan, void* base) {
    auto* bytes = static_cast<std::byte*>(base);
    logits = bytes;
    library = bytes + plan.logits_bytes();
  }
};

float* at(void* f32, std::int64_t row) {
  return f32 == nullptr ? nullptr : static_cast<float*>(f32) + row;
}

// Makes the logits of a block, and says what a kernel over its rows needs to know but its outputs.
LossRowsArguments encode_logits(const LossPlan& plan, const BlockProducts& products,
                                std::int64_t row, const Scratch& scratch,
                                const KernelArguments& arguments, Encoder& encoder) {
  encoder.matmul(*products.logits,
                 {.a = offset_data(arguments.inputs[0], row * plan.width, plan.dtype),
                  .b = arguments.inputs[1],
                  .c = scratch.logits,
                  .out = scratch.logits,
                  .scratch = scratch.library});
  LossRowsArguments rows{};
  rows.logits = scratch.logits;
  rows.targets =
      offset_data(arguments.inputs[2], row, plan.wide_targets ? DType::kI64 : DType::kI32);
  rows.columns = plan.classes;
  rows.stride = plan.stride;
  rows.ignore_index = plan.ignore_index;
  rows.wide_targets = plan.wide_targets ? 1 : 0;
  return rows;
}

void encode_dx(const LossPlan& plan, const BlockProducts& products, std::int64_t row,
               const Scratch& scratch, const KernelArguments& arguments, void* dx,
               Encoder& encoder) {
  void* out = offset_data(dx, row * plan.width, plan.dtype);
  encoder.matmul(*products.dx, {.a = scratch.logits,
                                .b = arguments.inputs[1],
                                .c = out,
                                .out = out,
                                .scratch = scratch.library});
}

std::unique_ptr<Kernel> make_forward(const op::LinearCrossEntropy& operation,
                                     const KernelRequest& request, GpuDevice& device) {
  const bool wants_gradient = request.needed[2];
  const LossPlan plan = make_plan(request, operation.ignore_index);
  const Function& loss_rows = device.function(fmt::format("loss_rows_{}", name(plan.dtype)));
  const Blocks blocks(plan, wants_gradient, false, device);
  return make_gpu_kernel(
      [blocks, wants_gradient, &loss_rows](const KernelArguments& arguments, Encoder& encoder) {
        const LossPlan& p = blocks.plan;
        const Scratch scratch(p, arguments.scratch);
        blocks.for_each([&](const BlockProducts& products, std::int64_t row, std::int64_t rows) {
          LossRowsArguments loss = encode_logits(p, products, row, scratch, arguments, encoder);
          loss.loss = at(arguments.outputs[0], row);
          loss.logsumexp = at(arguments.outputs[1], row);
          loss.gradient = wants_gradient ? scratch.logits : nullptr;
          encoder.dispatch(loss_rows, {static_cast<std::uint32_t>(rows)}, kThreads, loss);
          if (wants_gradient) {
            encode_dx(p, products, row, scratch, arguments, arguments.outputs[2], encoder);
          }
        });
      },
      blocks.scratch_bytes());
}

std::unique_ptr<Kernel> make_backward(const op::LinearCrossEntropyBackward& operation,
                                      const KernelRequest& request, GpuDevice& device) {
  const bool wants_dx = request.needed[0];
  const bool wants_dweight = request.needed[1];
  const LossPlan plan = make_plan(request, operation.ignore_index);
  const Function& backward =
      device.function(fmt::format("loss_rows_backward_{}", name(plan.dtype)));
  const Function& round = device.function(fmt::format("finish_product_{}", name(plan.dtype)));
  const Blocks blocks(plan, wants_dx, wants_dweight, device);
  const std::size_t own = round_up(blocks.scratch_bytes(), kScratchAlignment);
  const auto sums = static_cast<std::size_t>(wants_dweight ? plan.width * plan.classes : 0);
  return make_gpu_kernel(
      [blocks, wants_dx, wants_dweight, own, sums, &backward, &round](
          const KernelArguments& arguments, Encoder& encoder) {
        const LossPlan& p = blocks.plan;
        const Scratch scratch(p, arguments.scratch);
        void* dweight = static_cast<std::byte*>(arguments.scratch) + own;
        if (wants_dweight) encoder.zero(dweight, sums * sizeof(float));
        blocks.for_each([&](const BlockProducts& products, std::int64_t row, std::int64_t rows) {
          LossRowsArguments loss = encode_logits(p, products, row, scratch, arguments, encoder);
          loss.logsumexp = at(arguments.inputs[3], row);
          loss.dloss = at(arguments.inputs[4], row);
          loss.gradient = scratch.logits;
          encoder.dispatch(backward, {static_cast<std::uint32_t>(rows)}, kThreads, loss);
          if (wants_dx) {
            encode_dx(p, products, row, scratch, arguments, arguments.outputs[0], encoder);
          }
          if (!wants_dweight) return;
          encoder.matmul(*products.dweight,
                         {.a = offset_data(arguments.inputs[0], row * p.width, p.dtype),
                          .b = scratch.logits,
                          .c = dweight,
                          .out = dweight,
                          .scratch = scratch.library});
        });
        if (!wants_dweight) return;
        FinishProductArguments rounding{};
        rounding.sums = dweight;
        rounding.out = arguments.outputs[1];
        rounding.count = static_cast<std::int64_t>(sums);
        rounding.columns = p.classes;
        encoder.dispatch(round, {groups_for(rounding.count, 1024)}, 256, rounding);
      },
      own + sums * sizeof(float));
}

}  // namespace

std::unique_ptr<Kernel> make_linear_cross_entropy(const KernelRequest& request, GpuDevice& device) {
  if (const auto* forward = std::get_if<op::LinearCrossEntropy>(&request.operation)) {
    return make_forward(*forward, request, device);
  }
  return make_backward(std::get<op::LinearCrossEntropyBackward>(request.operation), request,
                       device);
}

}  // namespace metal_candle::backend::gpu
