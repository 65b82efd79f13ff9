// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// One matrix product with everything that may follow it, computed in blocks of the output on all
// threads. What follows is applied to a block while it is in the cache, in f32, before the one
// rounding to the output's dtype.
#pragma once

#include <cstdint>

#include "metal_candle/backend/cpu/gemm.h"
#include "metal_candle/graph/operation.h"

namespace metal_candle::backend::cpu {

/// A vector repeated along the rows of a product; no vector if data is null.
struct RowVector {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t stride = 1;
};

/// out[m, n] = activation(scale * (a[m, k] @ b[k, n] + left[m, rank] @ right[rank, n]) + bias) +
/// residual, out being row-major. Parts whose data is null are left out.
struct Product {
  std::int64_t m = 0, n = 0, k = 0;
  Matrix a, b;
  std::int64_t rank = 0;
  Matrix left, right;
  float scale = 1;
  op::Activation activation = op::Activation::kNone;
  RowVector bias;
  Matrix residual;
  void* out = nullptr;
  DType out_dtype = DType::kF32;
  std::int64_t out_stride = 0;  // Between rows; 0 stands for n.
  /// Adds a @ b to out, which is f32, instead; there is no more to the product then.
  bool accumulate = false;

  [[nodiscard]] std::int64_t row_length() const { return out_stride == 0 ? n : out_stride; }
};

/// Computes it. The result is the same, bit by bit, with any number of threads.
void run_product(const Product& product);

/// out[0, rows)[0, columns) of the product from the accumulated block c, whose corner is element
/// (row, column). c may be the output itself.
void finish_block(const Product& product, std::int64_t row, std::int64_t column, std::int64_t rows,
                  std::int64_t columns, const float* c, std::int64_t ldc);

}  // namespace metal_candle::backend::cpu
