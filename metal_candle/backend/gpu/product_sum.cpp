// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// ProductSum: by one kernel of ours where the device has wide products and the matrices are of
// whole packets; else as the library's products, each of which adds to what those before it have
// made.
//
// Inputs: what is multiplied from the left and the residual kContiguous, what from the right
// kMatrix.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/rows.h"
#include "metal_candle/backend/gpu/wide_product.h"

namespace metal_candle::backend::gpu {
namespace {

std::vector<MatmulDescription> products_of(const op::ProductSum& sum,
                                           const KernelRequest& request) {
  std::vector<MatmulDescription> products;
  for (std::size_t i = 0; i < static_cast<std::size_t>(sum.count); ++i) {
    MatmulDescription d = product_of_rows(request.outputs[0], request.inputs[2 * i + 1]);
    d.beta = i > 0 || sum.has_residual ? 1.0f : 0.0f;
    products.push_back(d);
  }
  return products;
}

// The library's products one after another.
std::unique_ptr<Kernel> make_in_parts(const op::ProductSum& sum,
                                      const std::vector<MatmulDescription>& descriptions,
                                      GpuDevice& device) {
  std::vector<std::shared_ptr<const Matmul>> products;
  std::size_t scratch = 0;
  for (const MatmulDescription& d : descriptions) {
    products.push_back(require_matmul(device, d, "product_sum"));
    scratch = std::max(scratch, products.back()->scratch_bytes());
  }
  return make_gpu_kernel(
      [products, has_residual = sum.has_residual](const KernelArguments& run, Encoder& encoder) {
        void* const out = run.outputs[0];
        for (std::size_t i = 0; i < products.size(); ++i) {
          encoder.matmul(*products[i], {.a = run.inputs[2 * i],
                                        .b = run.inputs[2 * i + 1],
                                        .c = i == 0 && has_residual ? run.inputs.back() : out,
                                        .out = out,
                                        .scratch = run.scratch});
        }
      },
      scratch);
}

}  // namespace

std::unique_ptr<Kernel> make_product_sum(const KernelRequest& request, GpuDevice& device) {
  const auto& sum = std::get<op::ProductSum>(request.operation);
  const std::vector<MatmulDescription> products = products_of(sum, request);
  const std::int64_t n = products[0].n;
  if (products[0].m == 0 || n == 0) {
    return make_gpu_kernel([](const KernelArguments&, Encoder&) {});
  }
  std::shared_ptr<const Kernel> parts = make_in_parts(sum, products, device);
  const std::size_t scratch = parts->scratch_bytes();
  // The panels that waste fewer columns.
  const auto wasted = [&](std::int64_t columns) {
    return (n + columns - 1) / columns * columns - n;
  };
  const std::int64_t columns = wasted(224) < wasted(256) ? 224 : 256;
  const WideProduct wide(products, columns, device.limits());
  const bool suits = wide.suits() && sum.count <= kMostProducts;
  const Function* function =
      suits ? &device.function(fmt::format("product_sum_{}_{}", columns, name(products[0].out)))
            : nullptr;
  std::vector<std::size_t> order(products.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_partition(order.begin(), order.end(),
                        [&](std::size_t i) { return !WideProduct::by_rows(products[i]); });
  return make_gpu_kernel(
      [=, &device, has_residual = sum.has_residual](const KernelArguments& run, Encoder& encoder) {
        if (function == nullptr || !std::all_of(run.inputs.begin(), run.inputs.end(), is_aligned) ||
            !is_aligned(run.outputs[0])) {
          static_cast<const GpuKernel&>(*parts).encode(run, encoder);
          return;
        }
        ProductSumArguments arguments{};
        for (std::size_t place = 0; place < order.size(); ++place) {
          const std::size_t i = order[place];
          wide.describe(device, products[i], run.inputs[2 * i], run.inputs[2 * i + 1],
                        arguments.terms[place]);
        }
        arguments.residual = has_residual ? run.inputs.back() : nullptr;
        arguments.out = run.outputs[0];
        arguments.shape = wide.shape();
        encoder.dispatch(*function, wide.grid(), kWideProductThreads, arguments, kWideProductBytes);
      },
      scratch);
}

}  // namespace metal_candle::backend::gpu
