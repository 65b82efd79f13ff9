// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the softmax kernels are told when they are made.
#pragma once

#include "metal_candle/backend/cpu/axis_plan.h"

namespace metal_candle::backend::cpu {

enum class SoftmaxMode : std::uint8_t { kSoftmax, kLogSoftmax, kLogSumExp };

struct SoftmaxPlan {
  SoftmaxMode mode;
  DType dtype;
  AxisPlan axis;  // Operands: inputs, then the output.
  bool stream;    // The output is larger than the caches.
};

}  // namespace metal_candle::backend::cpu
