// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal-candle bench --suite ops: operations by themselves, on any device, each evaluated and
// awaited, and queued many deep, against the machine's limit and against other frameworks on that
// device, where installed, in every form that they have: eager, compiled, replayed. How long the
// first call takes is a row of its own, whose reference is the form that runs first in a peer's
// process. And the engine against itself: the three modes, each fusion pass, peak memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/harness.h"
#include "metal_candle/core/device.h"
#include "metal_candle/execute/machine_limits.h"

namespace metal_candle::bench {

/// `peers`: of torch, mlx and jax. One that is not installed is a note.
void run_ops_suite(Table& table, Device device, const std::vector<std::string>& peers);

/// Computes the first case when it is told to (answer_start).
void first_call(Device device);

/// The part without peers: modes, passes, memory.
void run_ops_engine_cases(Table& table, Device device);

}  // namespace metal_candle::bench
