// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matmul and Linear: batches of products, with the batch folded into the rows where the right
// operand is shared.
//
// Inputs: x and weight kMatrix, bias kAny, residual kDenseRows. Linear may overwrite its residual;
// nothing else may be overwritten.
#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>

#include "metal_candle/backend/cpu/batch.h"
#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/product.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {
namespace {

// A batch of products, without addresses.
struct MatmulPlan {
  Product product;  // Of one batch.
  Shape batch;
  Strides a, b, residual;
  std::int64_t count = 1;  // Batches.
  bool swapped = false;    // a is the second input and b the first.
};

// Makes one product of all batches where b is shared and the rows of the others follow each other.
void fold_batch(MatmulPlan& plan, bool has_residual) {
  Product& p = plan.product;
  const bool shares_b = std::all_of(plan.b.begin(), plan.b.end(), [](auto s) { return s == 0; });
  std::int64_t a_stride = p.a.row_stride, residual_stride = p.residual.row_stride;
  if (!shares_b || !fold_rows(plan.batch, plan.a, p.m, a_stride)) return;
  if (has_residual && !fold_rows(plan.batch, plan.residual, p.m, residual_stride)) return;
  p.a.row_stride = a_stride;
  p.residual.row_stride = residual_stride;
  p.m *= plan.count;
  plan.count = 1;
  plan.batch = Shape{};
}

// With one column, a and b change places: then the long side is read as a small product reads it.
void swap_single_column(MatmulPlan& plan, bool has_residual) {
  Product& p = plan.product;
  if (p.n != 1 || p.m == 1 || (has_residual && p.residual.row_stride != 1)) return;
  std::swap(p.m, p.n);
  std::swap(p.a, p.b);
  std::swap(plan.a, plan.b);
  p.a = p.a.transposed();
  p.b = p.b.transposed();
  p.residual = p.residual.transposed();
  p.bias.stride = 0;
  plan.swapped = true;
}

// Without what Linear adds.
MatmulPlan make_batch_plan(const KernelRequest& request) {
  const TensorLayout& a = request.inputs[0];
  const TensorLayout& b = request.inputs[1];
  const TensorLayout& out = request.outputs[0];
  MatmulPlan plan;
  Product& p = plan.product;
  p.m = out.shape[out.shape.rank() - 2];
  p.n = out.shape.back();
  p.k = a.shape.back();
  p.a = matrix_of(a);
  p.b = matrix_of(b);
  p.out_dtype = out.dtype;
  plan.batch = leading(out.shape, 2);
  plan.count = num_elements(plan.batch);
  plan.a = batch_strides(a, plan.batch);
  plan.b = batch_strides(b, plan.batch);
  plan.residual = Strides(plan.batch.size(), 0);
  return plan;
}

MatmulPlan make_plan(const KernelRequest& request) {
  MatmulPlan plan = make_batch_plan(request);
  Product& p = plan.product;
  bool has_residual = false;
  if (const auto* linear = std::get_if<op::Linear>(&request.operation)) {
    p.scale = linear->scale;
    p.activation = linear->activation;
    if (linear->has_bias) {
      const TensorLayout& bias = request.inputs[2];
      p.bias = {nullptr, bias.dtype, bias.strides.back()};
    }
    has_residual = linear->has_residual;
    if (has_residual) {
      const TensorLayout& residual = request.inputs[linear->has_bias ? 3 : 2];
      p.residual = matrix_of(residual);
      plan.residual = batch_strides(residual, plan.batch);
    }
  }
  fold_batch(plan, has_residual);
  swap_single_column(plan, has_residual);
  return plan;
}

// Many batches are shared out between threads; few are shared out block by block.
template <typename Fn>
void for_each_batch(std::int64_t count, std::int64_t work, Fn fn) {
  if (count < 8) {
    for (std::int64_t i = 0; i < count; ++i) fn(i);
    return;
  }
  constexpr std::int64_t kWorkPerChunk = std::int64_t{1} << 17;
  const std::int64_t grain =
      std::max<std::int64_t>(1, kWorkPerChunk / std::max<std::int64_t>(work, 1));
  parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) fn(i);
  });
}

std::unique_ptr<Kernel> make_floating(const KernelRequest& request) {
  const auto* linear = std::get_if<op::Linear>(&request.operation);
  const bool has_bias = linear && linear->has_bias, has_residual = linear && linear->has_residual;
  const MatmulPlan plan = make_plan(request);
  return make_cpu_kernel([=](const KernelArguments& arguments) {
    const void* const a = arguments.inputs[plan.swapped ? 1 : 0];
    const void* const b = arguments.inputs[plan.swapped ? 0 : 1];
    const void* const bias = has_bias ? arguments.inputs[2] : nullptr;
    const void* const residual = has_residual ? arguments.inputs[has_bias ? 3 : 2] : nullptr;
    const std::int64_t size = plan.product.m * plan.product.n;
    for_each_batch(plan.count, size * plan.product.k, [&](std::int64_t i) {
      Product p = plan.product;
      p.a.data = offset_data(a, batch_offset(plan.batch, plan.a, i), p.a.dtype);
      p.b.data = offset_data(b, batch_offset(plan.batch, plan.b, i), p.b.dtype);
      p.bias.data = bias;
      if (residual) {
        p.residual.data =
            offset_data(residual, batch_offset(plan.batch, plan.residual, i), p.residual.dtype);
      }
      p.out = offset_data(arguments.outputs[0], i * size, p.out_dtype);
      run_product(p);
    });
  });
}

// Integers wrap, so sums are taken unsigned.
template <typename T>
void multiply_integers(const Product& p) {
  using U = std::conditional_t<(sizeof(T) < 4), std::uint32_t, std::make_unsigned_t<T>>;
  const T* const a = static_cast<const T*>(p.a.data);
  const T* const b = static_cast<const T*>(p.b.data);
  T* const out = static_cast<T*>(p.out);
  const std::int64_t grain =
      std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, p.n * p.k));
  parallel_for(p.m, grain, [&](std::int64_t begin, std::int64_t end) {
    constexpr std::int64_t kStrip = 256;
    U sums[kStrip];
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t j = 0; j < p.n; j += kStrip) {
        const std::int64_t columns = std::min(kStrip, p.n - j);
        std::fill_n(sums, columns, U{0});
        for (std::int64_t q = 0; q < p.k; ++q) {
          const T left = a[i * p.a.row_stride + q * p.a.column_stride];
          const U x = static_cast<std::make_unsigned_t<T>>(left);
          const T* const row = b + q * p.b.row_stride + j * p.b.column_stride;
          for (std::int64_t c = 0; c < columns; ++c) {
            sums[c] += x * static_cast<U>(row[c * p.b.column_stride]);
          }
        }
        for (std::int64_t c = 0; c < columns; ++c) out[i * p.n + j + c] = static_cast<T>(sums[c]);
      }
    }
  });
}

template <typename T>
std::unique_ptr<Kernel> make_integer(const KernelRequest& request) {
  const MatmulPlan plan = make_batch_plan(request);
  return make_cpu_kernel([plan](const KernelArguments& arguments) {
    const std::int64_t size = plan.product.m * plan.product.n;
    for_each_batch(plan.count, size * plan.product.k, [&](std::int64_t i) {
      Product one = plan.product;
      one.a.data = static_cast<const T*>(arguments.inputs[0]) + batch_offset(plan.batch, plan.a, i);
      one.b.data = static_cast<const T*>(arguments.inputs[1]) + batch_offset(plan.batch, plan.b, i);
      one.out = static_cast<T*>(arguments.outputs[0]) + i * size;
      multiply_integers<T>(one);
    });
  });
}

}  // namespace

std::unique_ptr<Kernel> make_matmul(const KernelRequest& request) {
  const DType dtype = request.outputs[0].dtype;
  if (is_floating(dtype)) return make_floating(request);
  return dispatch_dtype(dtype, [&](auto zero) -> std::unique_ptr<Kernel> {
    using T = decltype(zero);
    if constexpr (is_integer(dtype_of<T>())) {
      return make_integer<T>(request);
    } else {
      throw DTypeError("matmul: no product of " + std::string(name(dtype)));
    }
  });
}

}  // namespace metal_candle::backend::cpu
