// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sums of products and a residual, by wide products. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/wide_product.h"

#if defined(MC_HAS_WIDE_PRODUCTS)

template <typename T>
struct FinishProductSum {
  const MC_GLOBAL T* residual;
  MC_GLOBAL T* out;
  int32_t n;

  MC_FUNCTION int64_t at(int32_t row, int32_t column) const { return int64_t{row} * n + column; }
  MC_FUNCTION void start(MC_GROUP T* ring, int32_t row, int32_t column) const {
    if (residual != nullptr) copy_async<16>(ring, residual + at(row, column), true);
  }
  MC_FUNCTION void run(Packet<T, 8> packet, const MC_GROUP T* ring, int32_t row,
                       int32_t column) const {
    if (residual != nullptr) {
      const Packet<T, 8> more = *reinterpret_cast<const MC_GROUP Packet<T, 8>*>(ring);
      MC_UNROLL
      for (int i = 0; i < 8; ++i) {
        packet.values[i] = T(float(packet.values[i]) + float(more.values[i]));
      }
    }
    store_packet(out + at(row, column), packet);
  }
};

template <typename T, int kColumns>
MC_FUNCTION void product_sum(MC_CONSTANT ProductSumArguments& arguments, MC_GROUP char* memory,
                             Thread self) {
  const FinishProductSum<T> finish = {static_cast<const MC_GLOBAL T*>(arguments.residual),
                                      static_cast<MC_GLOBAL T*>(arguments.out), arguments.shape.n};
  wide_product<T, kColumns>(arguments.terms, arguments.shape, finish, memory, self);
}

#define MC_PRODUCT_SUM_KERNELS(type, T)                                              \
  MC_KERNEL_PAIRED(product_sum_224_##type, ProductSumArguments, kWideProductThreads, \
                   product_sum<T, 224>);                                             \
  MC_KERNEL_PAIRED(product_sum_256_##type, ProductSumArguments, kWideProductThreads, \
                   product_sum<T, 256>);
MC_PRODUCT_SUM_KERNELS(f16, half)
MC_PRODUCT_SUM_KERNELS(bf16, bfloat)
#undef MC_PRODUCT_SUM_KERNELS

#endif  // defined(MC_HAS_WIDE_PRODUCTS)
