// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal-candle bench --suite ops: operations by themselves, on any device, each evaluated and
// awaited, and queued many deep; against PyTorch on that device, where installed: eager, compiled
// and, on a GPU, as a replayed CUDA graph.
#pragma once

#include "bench/harness.h"
#include "metal_candle/core/device.h"

namespace metal_candle::bench {

void run_ops_suite(Table& table, Device device);

}  // namespace metal_candle::bench
