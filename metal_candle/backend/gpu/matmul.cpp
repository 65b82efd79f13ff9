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
#include "metal_candle/backend/gpu/rows.h"

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

// One product of all batches where b is shared and the rows of the others follow each other,
// forward and without overlap: the library takes no other matrices.
bool fold_batch(MatmulDescription& product, const Shape& batch, const Strides& a, const Strides& b,
                std::int64_t out_rows) {
  const bool shares_b = std::all_of(b.begin(), b.end(), [](auto s) { return s == 0; });
  std::int64_t row_stride = product.a.row_stride;
  if (!shares_b || product.a.column_stride != 1 || !fold_rows(batch, a, product.m, row_stride)) {
    return false;
  }
  if (out_rows > 1 && row_stride < product.k) return false;
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

constexpr std::size_t kPacketBytes = 16;
// As kernels/matmul.h has them.
constexpr std::int64_t kFewColumns = 4;
constexpr std::int64_t kFewRowsWarps = kThreads / 32;

// Rows that the device's library is slow with, and our kernel quick: it reads the weight at the
// rate of memory.
bool suits_few_rows(const BatchPlan& plan, const GpuDevice& device) {
  const MatmulDescription& p = plan.product;
  const auto width = static_cast<std::int64_t>(kPacketBytes / size_of(p.operands));
  return plan.repeats.size() == 1 && p.batch == 1 && p.m <= device.limits().few_rows &&
         p.k % width == 0 && p.k < INT32_MAX && p.n < INT32_MAX && p.b.row_stride == 1 &&
         p.b.column_stride >= p.k && p.b.column_stride % width == 0 && p.a.column_stride == 1 &&
         (p.m == 1 || p.a.row_stride == p.k);
}

// How many warps, as a power of 2, share the depth of their columns: as many as it takes to fill
// each multiprocessor, while each lane has something to read.
std::uint32_t depth_share_shift(std::int64_t sets, std::int64_t pieces, const GpuDevice& device) {
  constexpr std::int64_t kWarpsOfMultiprocessor = 64;
  const std::int64_t wanted = kWarpsOfMultiprocessor * device.limits().multiprocessors;
  std::uint32_t shift = 0;
  while (kFewRowsWarps >> shift > 1 && sets << shift < wanted &&
         pieces > std::int64_t{1} << shift) {
    ++shift;
  }
  return shift;
}

// What a kernel for few rows is asked for but addresses.
struct FewRowsLaunch {
  const Function* function;
  FewRowsArguments arguments{};
  Grid grid;

  FewRowsLaunch(const MatmulDescription& p, const op::Linear& linear, bool gated, float eps,
                GpuDevice& device)
      : function(&device.function(fmt::format("few_rows_{}_{}", p.m, name(p.operands)))) {
    // Columns that a warp, or a few that share the depth, makes at once.
    const std::int64_t columns = gated ? kFewColumns / 2 : kFewColumns;
    const std::int64_t sets = (p.n + columns - 1) / columns;
    const auto width = static_cast<std::int64_t>(kPacketBytes / size_of(p.operands));
    arguments.column_stride = p.b.column_stride;
    arguments.depth = static_cast<std::uint32_t>(p.k);
    arguments.columns = static_cast<std::uint32_t>(p.n);
    arguments.scale = linear.scale;
    arguments.eps = eps;
    arguments.activation = static_cast<std::uint32_t>(linear.activation);
    arguments.share_shift = depth_share_shift(sets, p.k / width / 32, device);
    grid = {groups_for(sets << arguments.share_shift, kFewRowsWarps)};
  }
  void encode(FewRowsArguments filled, Encoder& encoder) const {
    encoder.dispatch(*function, grid, kThreads, filled);
  }
};

// Falls to `general` where an operand begins in the middle of a packet.
std::unique_ptr<Kernel> make_few_rows(const BatchPlan& plan, const Epilogue& epilogue,
                                      std::unique_ptr<Kernel> general, GpuDevice& device) {
  const op::Linear linear{epilogue.activation, epilogue.has_bias, epilogue.has_residual,
                          plan.product.alpha};
  const FewRowsLaunch launch(plan.product, linear, false, 0, device);
  const std::shared_ptr<const Kernel> other = std::move(general);
  return make_gpu_kernel(
      [launch, epilogue, other](const KernelArguments& run, Encoder& encoder) {
        if (!is_aligned(run.inputs[0]) || !is_aligned(run.inputs[1])) {
          static_cast<const GpuKernel&>(*other).encode(run, encoder);
          return;
        }
        FewRowsArguments arguments = launch.arguments;
        arguments.x = run.inputs[0];
        arguments.weight = run.inputs[1];
        if (epilogue.has_bias) arguments.bias = run.inputs[2];
        if (epilogue.has_residual) {
          arguments.residual = run.inputs[static_cast<std::size_t>(epilogue.residual_input())];
        }
        arguments.out = run.outputs[0];
        launch.encode(arguments, encoder);
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
  const bool few_rows = plan.product.k > 0 && suits_few_rows(plan, device);
  plan.product.seldom = few_rows;
  std::unique_ptr<Kernel> general = make_general(plan, epilogue, out.dtype, count, device);
  return few_rows ? make_few_rows(plan, epilogue, std::move(general), device) : std::move(general);
}

namespace {

// NormLinear as the operations that it was made of, each a kernel of its own.
std::unique_ptr<Kernel> make_norm_linear_in_parts(const KernelRequest& request, GpuDevice& device) {
  const auto& o = std::get<op::NormLinear>(request.operation);
  const TensorLayout normed =
      TensorLayout::contiguous({request.inputs[0].shape, request.inputs[0].dtype});
  const bool needed[] = {true};
  // Kernels are asked for in the order in which they run.
  std::vector<std::shared_ptr<const Kernel>> parts;
  std::size_t most_scratch = 0;
  const auto add = [&](const Operation& operation, const std::vector<TensorLayout>& inputs,
                       const TensorLayout& output, auto make) {
    parts.push_back(make(KernelRequest{operation, inputs, {&output, 1}, needed}, device));
    most_scratch = std::max(most_scratch, parts.back()->scratch_bytes());
  };
  const TensorLayout& out = request.outputs[0];
  add(op::RmsNorm{o.eps}, {request.inputs[0], request.inputs[1]}, normed, make_norm);
  if (o.gated) {
    add(op::Matmul{}, {normed, request.inputs[2]}, out, make_matmul);
    add(op::Matmul{}, {normed, request.inputs[3]}, out, make_matmul);
    add(op::SwiGlu{}, {out, out}, out, make_elementwise);
  } else {
    std::vector<TensorLayout> inputs{normed};
    inputs.insert(inputs.end(), request.inputs.begin() + 2, request.inputs.end());
    add(o.linear, inputs, out, make_matmul);
  }
  const auto room = [](const TensorLayout& layout) {
    return round_up(TensorSpec{layout.shape, layout.dtype}.bytes(), 256);
  };
  const std::size_t gate_at = room(normed);
  const std::size_t up_at = gate_at + (o.gated ? room(out) : 0);
  const std::size_t scratch_at = up_at + (o.gated ? room(out) : 0);
  return make_gpu_kernel(
      [parts, gated = o.gated, gate_at, up_at, scratch_at](const KernelArguments& run,
                                                           Encoder& encoder) {
        auto* const memory = static_cast<std::byte*>(run.scratch);
        void* const normed_memory = memory;
        const auto encode = [&](std::size_t part, std::vector<void*> inputs, void* output) {
          void* const outputs[] = {output};
          static_cast<const GpuKernel&>(*parts[part])
              .encode({inputs, outputs, memory + scratch_at}, encoder);
        };
        encode(0, {run.inputs[0], run.inputs[1]}, normed_memory);
        if (gated) {
          encode(1, {normed_memory, run.inputs[2]}, memory + gate_at);
          encode(2, {normed_memory, run.inputs[3]}, memory + up_at);
          encode(3, {memory + gate_at, memory + up_at}, run.outputs[0]);
          return;
        }
        std::vector<void*> inputs{normed_memory};
        inputs.insert(inputs.end(), run.inputs.begin() + 2, run.inputs.end());
        encode(1, std::move(inputs), run.outputs[0]);
      },
      scratch_at + most_scratch);
}

}  // namespace

std::unique_ptr<Kernel> make_norm_linear(const KernelRequest& request, GpuDevice& device) {
  const auto& o = std::get<op::NormLinear>(request.operation);
  std::unique_ptr<Kernel> parts = make_norm_linear_in_parts(request, device);
  if (num_elements(request.outputs[0].shape) == 0 || request.inputs[0].shape.back() == 0) {
    return parts;
  }
  const TensorLayout operands[] = {request.inputs[0], request.inputs[2]};
  const BatchPlan plan = make_plan({op::Matmul{}, operands, request.outputs, request.needed});
  if (!suits_few_rows(plan, device)) return parts;
  if (o.gated && request.inputs[3].strides != request.inputs[2].strides) return parts;
  const FewRowsLaunch launch(plan.product, o.linear, o.gated, o.eps, device);
  const std::shared_ptr<const Kernel> other = std::move(parts);
  const std::size_t packed = o.gated ? 4 : 3;  // Inputs that are read in packets.
  return make_gpu_kernel(
      [launch, o, other, packed](const KernelArguments& run, Encoder& encoder) {
        if (!std::all_of(run.inputs.begin(), run.inputs.begin() + packed, is_aligned)) {
          static_cast<const GpuKernel&>(*other).encode(run, encoder);
          return;
        }
        FewRowsArguments arguments = launch.arguments;
        arguments.x = run.inputs[0];
        arguments.norm = run.inputs[1];
        arguments.weight = run.inputs[2];
        if (o.gated) arguments.up = run.inputs[3];
        if (o.linear.has_bias) arguments.bias = run.inputs[3];
        if (o.linear.has_residual) arguments.residual = run.inputs.back();
        arguments.out = run.outputs[0];
        launch.encode(arguments, encoder);
      },
      other->scratch_bytes());
}

}  // namespace metal_candle::backend::gpu
