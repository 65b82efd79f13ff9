// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What an evaluation moves, on paper: what fusing saves can be read off it.
#pragma once

#include <cstddef>
#include <span>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

struct PlanTraffic {
  double bytes = 0;       // That its steps read and write (StepLabel::bytes).
  std::size_t steps = 0;  // Kernels run.
};

/// Plans, as plan_evaluation() does, with the passes and in the mode of this thread.
[[nodiscard]] PlanTraffic plan_traffic(std::span<const Tensor> outputs);

}  // namespace metal_candle
