// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What tests tell the driver that computes nothing (driver.cpp).
#pragma once

namespace metal_candle::cuda_sim {

enum class Control {
  kHold,          // What is launched from now on is not done...
  kLetGo,         // ...until now.
  kFailLaunches,  // The next `count` launches fail.
  kFailGraphs,    // The next `count` graphs find no memory.
};

}  // namespace metal_candle::cuda_sim

/// Exported by the driver.
extern "C" void metal_candle_cuda_sim(metal_candle::cuda_sim::Control what, int count);
