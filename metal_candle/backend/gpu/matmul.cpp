// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matmul and Linear by the device's library, with the batch folded into the rows where the right
// operand is shared. What the library does not have (exact GELU, SiLU, an activation before a
// residual) is done by a kernel of ours on f32 sums, so that the result is rounded once.
//
// Inputs: x and weight kMatrix, bias and residual kContiguous.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "metal_candle/backend/batch.h"
#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kThreads = 256;

// Matrix products that differ in where they begin: the library's strided batches, repeated.
struct BatchPlan {
  MatmulDescription product;
  struct Offsets {
    std::int64_t a, b, out;  // Elements.
  };
  std::vector<Offsets> repeats;
};

MatmulDescription::Matrix matrix_of(const TensorLayout& layout) {
  const int rank = layout.shape.rank();
  return {layout.strides[rank - 2], layout.strides[rank - 1], 0};
}

// One product of all batches where b is shared and the rows of the others follow each other.
bool fold_batch(MatmulDescription& product, const Shape& batch, const Strides& a, const Strides& b,
                std::int64_t out_rows) {
  const bool shares_b = std::all_of(b.begin(), b.end(), [](auto s) { return s == 0; });
  std::int64_t row_stride = product.a.row_stride;
  if (!shares_b || product.a.column_stride != 1 || !fold_rows(batch, a, product.m, row_stride)) {
    return false;
  }
  product.a.row_stride = row_stride;
  product.m = out_rows;
  return true;
}

BatchPlan make_plan(const KernelRequest& request) {
  const TensorLayout& a = request.inputs[0];
  const TensorLayout& b = request.inputs[1];
  const TensorLayout& out = request.outputs[0];
  BatchPlan plan;
  MatmulDescription& p = plan.product;
  p.m = out.shape[out.shape.rank() - 2];
  p.n = out.shape.back();
  p.k = a.shape.back();
  p.a = matrix_of(a);
  p.b = matrix_of(b);
  p.out_row_stride = p.n;
  p.operands = a.dtype;
  p.out = out.dtype;
  Shape batch = leading(out.shape, 2);
  Strides strides[] = {batch_strides(a, batch), batch_strides(b, batch)};
  const std::int64_t count = num_elements(batch);
  if (fold_batch(p, batch, strides[0], strides[1], count * p.m)) {
    plan.repeats.push_back({0, 0, 0});
    return plan;
  }
  // The last axis that is left goes to the library; it repeats over the others.
  const std::int64_t out_stride = p.m * p.n;
  collapse_axes(batch, strides);
  p.batch = batch.back();
  p.a.batch_stride = strides[0].back();
  p.b.batch_stride = strides[1].back();
  p.out_batch_stride = out_stride;
  for (std::int64_t i = 0; i < count; i += p.batch) {
    plan.repeats.push_back(
        {batch_offset(batch, strides[0], i), batch_offset(batch, strides[1], i), i * out_stride});
  }
  return plan;
}

std::unique_ptr<Kernel> make_zero(const KernelRequest& request) {
  const std::size_t bytes = TensorSpec{request.outputs[0].shape, request.outputs[0].dtype}.bytes();
  return make_gpu_kernel([bytes](const KernelArguments& arguments, Encoder& encoder) {
    encoder.zero(arguments.outputs[0], bytes);
  });
}

std::unique_ptr<Kernel> make_integer(const KernelRequest& request, GpuDevice& device) {
  const DType dtype = request.outputs[0].dtype;
  const BatchPlan plan = make_plan(request);
  const Function& function = device.function(fmt::format("integer_product_{}", name(dtype)));
  return make_gpu_kernel(
      [plan, dtype, &function](const KernelArguments& arguments, Encoder& encoder) {
        const MatmulDescription& p = plan.product;
        for (const BatchPlan::Offsets& at : plan.repeats) {
          for (std::int64_t i = 0; i < p.batch; ++i) {
            const IntegerProductArguments one{
                offset_data(arguments.inputs[0], at.a + i * p.a.batch_stride, dtype),
                offset_data(arguments.inputs[1], at.b + i * p.b.batch_stride, dtype),
                offset_data(arguments.outputs[0], at.out + i * p.out_batch_stride, dtype),
                p.m,
                p.n,
                p.k,
                p.a.row_stride,
                p.a.column_stride,
                p.b.row_stride,
                p.b.column_stride};
            encoder.dispatch(function, {groups_for(p.m * p.n, kThreads)}, kThreads, one);
          }
        }
      });
}

// What comes after the sums.
struct Epilogue {
  op::Activation activation = op::Activation::kNone;
  bool has_bias = false;
  bool has_residual = false;

  [[nodiscard]] int residual_input() const { return has_bias ? 3 : 2; }
};

// The library's product with all of the epilogue.
std::unique_ptr<Kernel> make_whole(BatchPlan plan, const Epilogue& epilogue, GpuDevice& device) {
  if (epilogue.has_residual && epilogue.activation != op::Activation::kNone) return nullptr;
  plan.product.has_bias = epilogue.has_bias;
  plan.product.activation = epilogue.activation;
  plan.product.beta = epilogue.has_residual ? 1.0f : 0.0f;
  std::shared_ptr<const Matmul> product = device.make_matmul(plan.product);
  if (!product) return nullptr;
  const std::size_t scratch = product->scratch_bytes();
  return make_gpu_kernel(
      [plan = std::move(plan), epilogue, product](const KernelArguments& arguments,
                                                  Encoder& encoder) {
        const MatmulDescription& p = plan.product;
        const void* residual =
            epilogue.has_residual
                ? arguments.inputs[static_cast<std::size_t>(epilogue.residual_input())]
                : nullptr;
        for (const BatchPlan::Offsets& at : plan.repeats) {
          void* out = offset_data(arguments.outputs[0], at.out, p.out);
          encoder.matmul(*product,
                         {.a = offset_data(arguments.inputs[0], at.a, p.operands),
                          .b = offset_data(arguments.inputs[1], at.b, p.operands),
                          .bias = epilogue.has_bias ? arguments.inputs[2] : nullptr,
                          .c = residual != nullptr ? offset_data(residual, at.out, p.out) : out,
                          .out = out,
                          .scratch = arguments.scratch});
        }
      },
      scratch);
}

// f32 sums in scratch, and a kernel for the rest.
std::unique_ptr<Kernel> make_in_two(BatchPlan plan, const Epilogue& epilogue, DType dtype,
                                    std::int64_t count, GpuDevice& device) {
  plan.product.out = DType::kF32;
  // A product over nothing is 0.
  std::shared_ptr<const Matmul> product;
  if (plan.product.k > 0) product = require_matmul(device, plan.product, "matmul");
  const Function& finish = device.function(fmt::format("finish_product_{}", name(dtype)));
  const std::size_t sums_bytes = round_up(static_cast<std::size_t>(count) * sizeof(float), 256);
  const std::size_t scratch = sums_bytes + (product ? product->scratch_bytes() : 0);
  return make_gpu_kernel(
      [plan = std::move(plan), epilogue, product, &finish, count, sums_bytes](
          const KernelArguments& arguments, Encoder& encoder) {
        const MatmulDescription& p = plan.product;
        void* const sums = arguments.scratch;
        if (!product) encoder.zero(sums, sums_bytes);
        for (const BatchPlan::Offsets& at : plan.repeats) {
          if (!product) break;
          void* out = offset_data(sums, at.out, DType::kF32);
          encoder.matmul(*product, {.a = offset_data(arguments.inputs[0], at.a, p.operands),
                                    .b = offset_data(arguments.inputs[1], at.b, p.operands),
                                    .c = out,
                                    .out = out,
                                    .scratch = static_cast<std::byte*>(sums) + sums_bytes});
        }
        const FinishProductArguments rest{
            sums,
            epilogue.has_bias ? arguments.inputs[2] : nullptr,
            epilogue.has_residual
                ? arguments.inputs[static_cast<std::size_t>(epilogue.residual_input())]
                : nullptr,
            arguments.outputs[0],
            count,
            p.n,
            static_cast<std::uint32_t>(epilogue.activation)};
        encoder.dispatch(finish, {groups_for(count, 4 * kThreads)}, kThreads, rest);
      },
      scratch);
}

// Rows that the device's library is slow with, and our kernel quick: it reads the weight at the
// rate of memory.
constexpr std::int64_t kFewRows = 4;
constexpr std::size_t kPacketBytes = 16;
// As kernels/matmul.h has it.
constexpr std::int64_t kFewColumns = 2;

bool suits_few_rows(const BatchPlan& plan) {
  const MatmulDescription& p = plan.product;
  const auto width = static_cast<std::int64_t>(kPacketBytes / size_of(p.operands));
  return plan.repeats.size() == 1 && p.batch == 1 && p.m <= kFewRows && p.k % width == 0 &&
         p.k < INT32_MAX && p.n < INT32_MAX && p.b.row_stride == 1 && p.b.column_stride >= p.k &&
         p.b.column_stride % width == 0 && p.a.column_stride == 1 &&
         (p.m == 1 || p.a.row_stride == p.k);
}

bool starts_packet(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % kPacketBytes == 0;
}

// Falls to `general` where an operand begins in the middle of a packet.
std::unique_ptr<Kernel> make_few_rows(const BatchPlan& plan, const Epilogue& epilogue,
                                      std::unique_ptr<Kernel> general, GpuDevice& device) {
  const MatmulDescription p = plan.product;
  const Function& function = device.function(fmt::format("few_rows_{}_{}", p.m, name(p.operands)));
  const std::shared_ptr<const Kernel> other = std::move(general);
  return make_gpu_kernel(
      [p, epilogue, other, &function](const KernelArguments& arguments, Encoder& encoder) {
        if (!starts_packet(arguments.inputs[0]) || !starts_packet(arguments.inputs[1])) {
          static_cast<const GpuKernel&>(*other).encode(arguments, encoder);
          return;
        }
        FewRowsArguments rows{};
        rows.x = arguments.inputs[0];
        rows.weight = arguments.inputs[1];
        rows.bias = epilogue.has_bias ? arguments.inputs[2] : nullptr;
        rows.residual = epilogue.has_residual
                            ? arguments.inputs[static_cast<std::size_t>(epilogue.residual_input())]
                            : nullptr;
        rows.out = arguments.outputs[0];
        rows.column_stride = p.b.column_stride;
        rows.depth = static_cast<std::uint32_t>(p.k);
        rows.columns = static_cast<std::uint32_t>(p.n);
        rows.scale = p.alpha;
        rows.activation = static_cast<std::uint32_t>(epilogue.activation);
        encoder.dispatch(function, {groups_for(p.n, kThreads / 32 * kFewColumns)}, kThreads, rows);
      },
      other->scratch_bytes());
}

// By the library, with a kernel of ours after it where it must be.
std::unique_ptr<Kernel> make_general(const BatchPlan& plan, const Epilogue& epilogue, DType dtype,
                                     std::int64_t count, GpuDevice& device) {
  if (plan.product.k > 0) {
    if (std::unique_ptr<Kernel> whole = make_whole(plan, epilogue, device)) return whole;
  }
  return make_in_two(plan, epilogue, dtype, count, device);
}

}  // namespace

std::unique_ptr<Kernel> make_matmul(const KernelRequest& request, GpuDevice& device) {
  const TensorLayout& out = request.outputs[0];
  const std::int64_t count = num_elements(out.shape);
  const auto* linear = std::get_if<op::Linear>(&request.operation);
  if (count == 0 || (request.inputs[0].shape.back() == 0 && linear == nullptr)) {
    return make_zero(request);
  }
  if (!is_floating(out.dtype)) return make_integer(request, device);
  BatchPlan plan = make_plan(request);
  Epilogue epilogue;
  if (linear != nullptr) {
    plan.product.alpha = linear->scale;
    epilogue = {linear->activation, linear->has_bias, linear->has_residual};
  }
  std::unique_ptr<Kernel> general = make_general(plan, epilogue, out.dtype, count, device);
  if (plan.product.k == 0 || !suits_few_rows(plan)) return general;
  return make_few_rows(plan, epilogue, std::move(general), device);
}

}  // namespace metal_candle::backend::gpu
