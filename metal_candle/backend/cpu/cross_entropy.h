// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The cross entropy kernels, which make_softmax() hands on to.
#pragma once

#include <memory>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/row_map.h"

namespace metal_candle::backend::cpu {

/// CrossEntropy and CrossEntropyBackward.
std::unique_ptr<Kernel> make_cross_entropy(const KernelRequest& request);

struct CrossEntropyPlan {
  DType dtype;         // Of the logits.
  DType target_dtype;  // i32 or i64.
  std::int64_t rows, classes;
  std::int64_t ignore_index;
  RowMap logits;
  bool stream;
};

}  // namespace metal_candle::backend::cpu
