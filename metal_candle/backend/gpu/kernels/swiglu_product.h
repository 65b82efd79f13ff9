// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The gradient of silu(gate) * up where what it is multiplied by is a product of large matrices,
// which is never written. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/swiglu.h"
#include "metal_candle/backend/gpu/kernels/wide_product.h"

#if defined(MC_HAS_WIDE_PRODUCTS)

template <typename T>
struct FinishSwiGluBackward {
  const MC_GLOBAL T* gate;
  const MC_GLOBAL T* up;
  MC_GLOBAL T* dgate;
  MC_GLOBAL T* dup;
  int32_t n;

  MC_FUNCTION void start(MC_GROUP T* ring, int32_t row, int32_t column) const {
    const int64_t at = int64_t{row} * n + column;
    copy_async<16>(ring, gate + at, true);
    copy_async<16>(ring + kPanelRing / 4, up + at, true);
  }
  MC_FUNCTION void run(Packet<T, 8> dy, const MC_GROUP T* ring, int32_t row, int32_t column) const {
    const int64_t at = int64_t{row} * n + column;
    const Packet<T, 8> x = *reinterpret_cast<const MC_GROUP Packet<T, 8>*>(ring);
    const Packet<T, 8> u = *reinterpret_cast<const MC_GROUP Packet<T, 8>*>(ring + kPanelRing / 4);
    Packet<T, 8> dx, du;
    MC_UNROLL
    for (int i = 0; i < 8; ++i) {
      swiglu_gradient<T>(x.values[i], u.values[i], dy.values[i], dx.values[i], du.values[i]);
    }
    if (dgate != nullptr) store_packet(dgate + at, dx);
    if (dup != nullptr) store_packet(dup + at, du);
  }
};

template <typename T>
MC_FUNCTION void swiglu_product(MC_CONSTANT SwiGluProductArguments& arguments,
                                MC_GROUP char* memory, Thread self) {
  const FinishSwiGluBackward<T> finish = {
      static_cast<const MC_GLOBAL T*>(arguments.gate),
      static_cast<const MC_GLOBAL T*>(arguments.up), static_cast<MC_GLOBAL T*>(arguments.dgate),
      static_cast<MC_GLOBAL T*>(arguments.dup), arguments.shape.n};
  wide_product<T, 256>(&arguments.term, arguments.shape, finish, memory, self);
}

MC_KERNEL_PAIRED(swiglu_product_f16, SwiGluProductArguments, kWideProductThreads,
                 swiglu_product<half>);
MC_KERNEL_PAIRED(swiglu_product_bf16, SwiGluProductArguments, kWideProductThreads,
                 swiglu_product<bfloat>);

#endif  // defined(MC_HAS_WIDE_PRODUCTS)
