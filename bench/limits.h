// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The limits that rows are held against, measured at the start of a run.
#pragma once

#include "bench/harness.h"
#include "metal_candle/execute/machine_limits.h"

namespace metal_candle::bench {

/// The engine's own (measure_machine_limits()), and on the CPU also what is not ours, whichever is
/// quicker: memcpy on all threads, oneDNN's products. A note of them goes above the table.
[[nodiscard]] MachineLimits measure_limits(const Table& table, Device device);

}  // namespace metal_candle::bench
