// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The gradient of silu(gate) * up, in f32, for both. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"

template <typename T>
MC_FUNCTION void swiglu_gradient(T gate, T up, T dy, MC_THREAD T& dgate, MC_THREAD T& dup) {
  const float x = float(gate), d = float(dy);
  const float s = sigmoid_for<T>(x);
  dgate = T(d * float(up) * (s * fmaf(x, 1.0f - s, 1.0f)));
  dup = T(d * (x * s));
}

template <typename T, int width>
MC_FUNCTION void swiglu_backward(MC_CONSTANT SwiGluBackwardArguments& arguments, MC_GROUP char*,
                                 Thread self) {
  const int64_t i = (int64_t{self.group} * self.size + self.index) * width;
  if (i >= arguments.count) return;
  const Packet<T, width> gate =
      load_packet<T, width>(static_cast<const MC_GLOBAL T*>(arguments.gate) + i);
  const Packet<T, width> up =
      load_packet<T, width>(static_cast<const MC_GLOBAL T*>(arguments.up) + i);
  const Packet<T, width> dy =
      load_packet<T, width>(static_cast<const MC_GLOBAL T*>(arguments.dy) + i);
  Packet<T, width> dgate, dup;
  MC_UNROLL
  for (int j = 0; j < width; ++j) {
    swiglu_gradient<T>(gate.values[j], up.values[j], dy.values[j], dgate.values[j], dup.values[j]);
  }
  if (arguments.dgate != nullptr) {
    store_packet(static_cast<MC_GLOBAL T*>(arguments.dgate) + i, dgate);
  }
  if (arguments.dup != nullptr) store_packet(static_cast<MC_GLOBAL T*>(arguments.dup) + i, dup);
}

#define MC_SWIGLU_KERNELS(type, T, width)                                                        \
  MC_KERNEL(swiglu_backward_##type, SwiGluBackwardArguments, 256, 0, swiglu_backward<T, width>); \
  MC_KERNEL(swiglu_backward_##type##_unaligned, SwiGluBackwardArguments, 256, 0,                 \
            swiglu_backward<T, 1>);
MC_SWIGLU_KERNELS(f32, float, 4)
MC_SWIGLU_KERNELS(f16, half, 8)
MC_SWIGLU_KERNELS(bf16, bfloat, 8)
#undef MC_SWIGLU_KERNELS
