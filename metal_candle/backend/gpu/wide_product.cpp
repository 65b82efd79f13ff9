// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See wide_product.h.
#include "metal_candle/backend/gpu/wide_product.h"

#include <algorithm>

#include "metal_candle/backend/batch.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::int64_t kInner = 64;  // Of a step.
constexpr std::int64_t kPair = 2;    // Groups that have neighbouring rows.
// With fewer rows most of a panel would be empty.
constexpr std::int64_t kLeastRows = 64;
constexpr std::int64_t kPacket = 8;  // Elements.
constexpr std::int32_t kShort = 32;  // Steps.
// Panels go on beyond the matrix, and are counted in 32 bits.
constexpr std::int64_t kMost = INT32_MAX - 1024;

std::int64_t b_stride(const MatmulDescription& d) {
  return WideProduct::by_rows(d) ? d.b.column_stride : d.b.row_stride;
}

bool suits_kernels(const MatmulDescription& d) {
  return (WideProduct::by_rows(d) || d.b.column_stride == 1) && size_of(d.operands) == 2 &&
         d.out == d.operands && d.batch == 1 && d.m >= kLeastRows && d.m <= INT32_MAX &&
         d.n <= INT32_MAX && d.n % kPacket == 0 && d.k > 0 && d.k % kPacket == 0 &&
         b_stride(d) % kPacket == 0 && d.a.column_stride == 1 && d.a.row_stride % kPacket == 0 &&
         d.out_row_stride == d.n;
}

}  // namespace

MatmulDescription product_of_rows(const TensorLayout& out, const TensorLayout& b) {
  MatmulDescription d;
  d.m = num_elements(leading(out.shape, 1));
  d.n = out.shape.back();
  d.k = b.shape[0];
  d.a = {d.k, 1, 0};
  d.b = {b.strides[0], b.strides[1], 0};
  d.out_row_stride = d.n;
  d.operands = out.dtype;
  d.out = out.dtype;
  return d;
}

WideProduct::WideProduct(std::span<const MatmulDescription> products, std::int64_t panel_columns,
                         const DeviceLimits& limits)
    : panel_columns_(panel_columns) {
  suits_ = limits.wide_products && std::all_of(products.begin(), products.end(), suits_kernels);
  if (!suits_) return;
  const MatmulDescription& first = products.front();
  shape_.m = static_cast<std::int32_t>(first.m);
  shape_.n = static_cast<std::int32_t>(first.n);
  for (const MatmulDescription& d : products) {
    const auto steps = static_cast<std::int32_t>((d.k + kInner - 1) / kInner);
    shape_.steps += steps;
    if (!WideProduct::by_rows(d)) shape_.steps_by_columns += steps;
  }
  const std::int64_t rows = kPair * kWideProductRows;
  const std::int64_t pairs =
      (first.m + rows - 1) / rows * ((first.n + panel_columns - 1) / panel_columns);
  const std::int64_t most = std::max<std::int64_t>(limits.multiprocessors / kPair, 1);
  grid_ = {static_cast<std::uint32_t>(kPair * std::min(pairs, most))};
  // Where panels leave much of the device idle, the library's smaller tiles are quicker, and it
  // cuts long inner axes in parts.
  const std::int64_t rounds = (pairs + most - 1) / most;
  const bool fills = rounds == 1 ? 5 * pairs >= 2 * most : 4 * pairs >= 3 * rounds * most;
  if (!fills || (2 * pairs < most && shape_.steps > kShort)) suits_ = false;
}

void WideProduct::describe(const GpuDevice& device, const MatmulDescription& product, const void* a,
                           const void* b, ProductTerm& out) const {
  const MatmulDescription& d = product;
  device.describe({a, d.m, d.k, d.a.row_stride, kWideProductRows, kInner}, out.a);
  const std::int64_t stride = b_stride(d);
  out.by_rows = WideProduct::by_rows(d) ? 1 : 0;
  device.describe(WideProduct::by_rows(d)
                      ? BoxedMatrix{b, d.n, d.k, stride, panel_columns_ / 2, kInner}
                      : BoxedMatrix{b, d.k, d.n, stride, kInner, kInner},
                  out.b);
  out.k = static_cast<std::int32_t>(d.k);
}

}  // namespace metal_candle::backend::gpu
