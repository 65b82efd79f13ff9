// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Lora and LoraLinear. The product with a is r columns wide and stays in f32, scaled; the product
// of that with b is added to the blocks of x @ weight while they are in the cache. For one short
// row all of it is a few hundred nanoseconds on the calling thread, without allocation.
//
// Inputs: x, weight, a and b kMatrix, bias kAny. Nothing may be overwritten. LoraLinear's second
// output is that first product.
#include <algorithm>
#include <utility>

#include "metal_candle/backend/cpu/batch.h"
#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/product.h"
#include "metal_candle/backend/cpu/row_map.h"
#include "metal_candle/backend/cpu/small_gemm.h"

namespace metal_candle::backend::cpu {
namespace {

// From this many rows on, turning the product with a around pays for copying a; up to this rank,
// reading x once for every kSmallGemmRows columns of a costs less than packing it.
constexpr std::int64_t kTurnedRows = 16;
constexpr std::int64_t kTurnedRank = 2 * kSmallGemmRows;

struct LoraPlan {
  Product down;         // x @ a, scaled, into the scratch.
  bool turned = false;  // It is a^T @ x^T instead, kSmallGemmRows rows at a time.
  Product up;           // What is computed from that, for one batch.
  Shape batch;
  Strides x;
  std::int64_t count = 1;  // Batches.
};

// A product with few columns leaves most of a tile empty. Turned around it has few rows, and those
// kernels read x where it lies, without packing it.
void turn_narrow(LoraPlan& plan) {
  Product& down = plan.down;
  if (down.n > kTurnedRank || down.m < kTurnedRows || down.a.column_stride != 1) return;
  std::swap(down.m, down.n);
  std::swap(down.a, down.b);
  down.a = down.a.transposed();
  down.b = down.b.transposed();
  plan.up.left = {nullptr, DType::kF32, 1, down.n};
  plan.turned = true;
}

// `first` is the number of the input a; b is the next.
LoraPlan make_plan(const KernelRequest& request, int first, float scale) {
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& a = request.inputs[static_cast<std::size_t>(first)];
  const TensorLayout& b = request.inputs[static_cast<std::size_t>(first) + 1];
  const TensorLayout& out = request.outputs[0];
  LoraPlan plan;
  Product& down = plan.down;
  down.m = out.shape[out.shape.rank() - 2];
  down.n = a.shape.back();
  down.k = x.shape.back();
  down.a = matrix_of(x);
  down.b = matrix_of(a);
  down.scale = scale;
  plan.batch = leading(out.shape, 2);
  plan.x = batch_strides(x, plan.batch);
  plan.count = num_elements(plan.batch);
  if (fold_rows(plan.batch, plan.x, down.m, down.a.row_stride)) {
    down.m *= plan.count;
    plan.count = 1;
    plan.batch = Shape{};
  }
  plan.up.m = down.m;
  plan.up.n = out.shape.back();
  plan.up.out_dtype = out.dtype;
  plan.up.left = {nullptr, DType::kF32, down.n, 1};
  plan.up.right = matrix_of(b);
  plan.up.rank = down.n;
  turn_narrow(plan);
  return plan;
}

std::size_t scratch_bytes(const LoraPlan& plan) {
  return static_cast<std::size_t>(plan.down.m * plan.down.n) * sizeof(float);
}

void run_down(const Product& down, bool turned) {
  if (!turned) return run_product(down);
  for (std::int64_t row = 0; row < down.m; row += kSmallGemmRows) {
    Product part = down;
    part.m = std::min(kSmallGemmRows, down.m - row);
    part.a = down.a.block(row, 0);
    part.out = static_cast<float*>(down.out) + row * down.n;
    run_product(part);
  }
}

// Calls fn(x, out) for each batch, with the product with a ready in the scratch.
template <typename Fn>
void for_each_batch(const LoraPlan& plan, const KernelArguments& arguments, int first, Fn fn) {
  for (std::int64_t i = 0; i < plan.count; ++i) {
    Product down = plan.down;
    const std::int64_t offset = batch_offset(plan.batch, plan.x, i);
    Matrix& of_x = plan.turned ? down.b : down.a;
    (plan.turned ? down.a : down.b).data = arguments.inputs[static_cast<std::size_t>(first)];
    of_x.data = offset_data(arguments.inputs[0], offset, of_x.dtype);
    down.out = arguments.scratch;
    run_down(down, plan.turned);
    fn(of_x.data, offset_data(arguments.outputs[0], i * plan.up.m * plan.up.n, plan.up.out_dtype));
  }
}

std::unique_ptr<Kernel> make_plain(const KernelRequest& request, const op::Lora& lora) {
  LoraPlan plan = make_plan(request, 1, lora.scale);
  // There is no other product to add to, so this one is the product.
  plan.up.a = plan.up.left;
  plan.up.b = plan.up.right;
  plan.up.k = plan.up.rank;
  plan.up.rank = 0;
  return make_cpu_kernel(
      [plan](const KernelArguments& arguments) {
        for_each_batch(plan, arguments, 1, [&](const void*, void* out) {
          Product up = plan.up;
          up.a.data = arguments.scratch;
          up.b.data = arguments.inputs[2];
          up.out = out;
          run_product(up);
        });
      },
      scratch_bytes(plan));
}

// The scaled product with a, [m, r] in the scratch or turned, as elements of `dtype`.
void write_low(const LoraPlan& plan, const void* scratch, DType dtype, void* out) {
  const std::int64_t rows = plan.up.m, rank = plan.up.rank;
  const auto* low = static_cast<const float*>(scratch);
  dispatch_floating("lora_linear", dtype, [&](auto zero) {
    using T = decltype(zero);
    auto* to = static_cast<T*>(out);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t column = 0; column < rank; ++column) {
        to[row * rank + column] =
            T(plan.turned ? low[column * rows + row] : low[row * rank + column]);
      }
    }
  });
}

std::unique_ptr<Kernel> make_linear(const KernelRequest& request, const op::LoraLinear& lora) {
  LoraPlan plan = make_plan(request, 2, lora.scale);
  plan.up.k = request.inputs[0].shape.back();
  plan.up.a = plan.turned ? plan.down.b.transposed() : plan.down.a;
  plan.up.b = matrix_of(request.inputs[1]);
  const bool has_bias = lora.has_bias;
  const bool wants_low = lora.keeps_low && request.needed[1];
  if (has_bias) plan.up.bias = {nullptr, request.inputs[4].dtype, request.inputs[4].strides.back()};
  return make_cpu_kernel(
      [plan, has_bias, wants_low](const KernelArguments& arguments) {
        std::int64_t batch = 0;
        for_each_batch(plan, arguments, 2, [&](const void* x, void* out) {
          if (wants_low) {
            write_low(plan, arguments.scratch, plan.up.out_dtype,
                      offset_data(arguments.outputs[1], batch++ * plan.up.m * plan.up.rank,
                                  plan.up.out_dtype));
          }
          Product up = plan.up;
          up.a.data = x;
          up.b.data = arguments.inputs[1];
          up.left.data = arguments.scratch;
          up.right.data = arguments.inputs[3];
          up.bias.data = has_bias ? arguments.inputs[4] : nullptr;
          up.out = out;
          run_product(up);
        });
      },
      scratch_bytes(plan));
}

}  // namespace

std::unique_ptr<Kernel> make_lora(const KernelRequest& request) {
  if (const auto* lora = std::get_if<op::Lora>(&request.operation))
    return make_plain(request, *lora);
  return make_linear(request, std::get<op::LoraLinear>(request.operation));
}

}  // namespace metal_candle::backend::cpu
