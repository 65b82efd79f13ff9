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
#include <vector>

#include "metal_candle/backend/batch.h"
#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

// As kernels/product_sum.h has them.
constexpr std::uint32_t kThreads = 256;
constexpr std::int64_t kTile = 128;
constexpr std::int64_t kStep = 64;
constexpr std::uint32_t kGroupBytes = 1024 + 3 * 4 * 64 * 64 * 2;
// With fewer rows most of a tile would be empty.
constexpr std::int64_t kLeastRows = 64;
constexpr std::int64_t kPacket = 8;  // Elements.

struct Terms {
  int count = 0;
  std::int64_t m = 0, n = 0;
  DType dtype = DType::kF32;
  std::vector<MatmulDescription> products;

  Terms(const op::ProductSum& sum, const KernelRequest& request) : count(sum.count) {
    const TensorLayout& out = request.outputs[0];
    n = out.shape.back();
    m = num_elements(leading(out.shape, 1));
    dtype = out.dtype;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      const TensorLayout& b = request.inputs[2 * i + 1];
      MatmulDescription d;
      d.m = m;
      d.n = n;
      d.k = b.shape[0];
      d.a = {d.k, 1, 0};
      d.b = {b.strides[0], b.strides[1], 0};
      d.out_row_stride = n;
      d.operands = dtype;
      d.out = dtype;
      d.beta = i > 0 || sum.has_residual ? 1.0f : 0.0f;
      products.push_back(d);
    }
  }

  [[nodiscard]] static bool by_rows(const MatmulDescription& d) { return d.b.row_stride == 1; }
  [[nodiscard]] static std::int64_t b_stride(const MatmulDescription& d) {
    return by_rows(d) ? d.b.column_stride : d.b.row_stride;
  }
  // Whether our kernel can do it, but for where the matrices begin.
  [[nodiscard]] bool suit(const DeviceLimits& limits) const {
    if (!limits.wide_products || size_of(dtype) != 2 || count > kMostProducts) return false;
    if (m < kLeastRows || m > INT32_MAX || n > INT32_MAX || n % kPacket != 0) return false;
    return std::all_of(products.begin(), products.end(), [](const MatmulDescription& d) {
      return d.k % kPacket == 0 && d.k > 0 && b_stride(d) % kPacket == 0 &&
             (by_rows(d) || d.b.column_stride == 1);
    });
  }
};

// The library's products one after another.
std::unique_ptr<Kernel> make_in_parts(const op::ProductSum& sum, const Terms& terms,
                                      GpuDevice& device) {
  std::vector<std::shared_ptr<const Matmul>> products;
  std::size_t scratch = 0;
  for (const MatmulDescription& d : terms.products) {
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
  const Terms terms(sum, request);
  if (terms.m == 0 || terms.n == 0) return make_gpu_kernel([](const KernelArguments&, Encoder&) {});
  std::shared_ptr<const Kernel> parts = make_in_parts(sum, terms, device);
  ProductSumArguments base{};
  base.m = static_cast<std::int32_t>(terms.m);
  base.n = static_cast<std::int32_t>(terms.n);
  const bool suits = terms.suit(device.limits());
  const std::size_t scratch = parts->scratch_bytes();
  for (std::size_t i = 0; suits && i < terms.products.size(); ++i) {
    const MatmulDescription& d = terms.products[i];
    base.terms[i].a_stride = d.a.row_stride;
    base.terms[i].b_stride = Terms::b_stride(d);
    base.terms[i].k = static_cast<std::int32_t>(d.k);
    base.terms[i].by_rows = Terms::by_rows(d) ? 1 : 0;
    base.steps += static_cast<std::int32_t>((d.k + kStep - 1) / kStep);
  }
  const Function* function =
      suits ? &device.function(fmt::format("product_sum_{}", name(terms.dtype))) : nullptr;
  const auto groups =
      static_cast<std::uint32_t>(((terms.m + kTile - 1) / kTile) * ((terms.n + kTile - 1) / kTile));
  return make_gpu_kernel(
      [=, count = static_cast<std::size_t>(sum.count), has_residual = sum.has_residual](
          const KernelArguments& run, Encoder& encoder) {
        if (function == nullptr || !std::all_of(run.inputs.begin(), run.inputs.end(), is_aligned) ||
            !is_aligned(run.outputs[0])) {
          static_cast<const GpuKernel&>(*parts).encode(run, encoder);
          return;
        }
        ProductSumArguments arguments = base;
        for (std::size_t i = 0; i < count; ++i) {
          arguments.terms[i].a = run.inputs[2 * i];
          arguments.terms[i].b = run.inputs[2 * i + 1];
        }
        arguments.residual = has_residual ? run.inputs.back() : nullptr;
        arguments.out = run.outputs[0];
        encoder.dispatch(*function, {groups}, kThreads, arguments, kGroupBytes);
      },
      scratch);
}

}  // namespace metal_candle::backend::gpu
