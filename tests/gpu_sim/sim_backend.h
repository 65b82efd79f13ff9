// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A whole backend on the GPU in software, which stands for device cuda:0 in tests.
#pragma once

#include <array>
#include <memory>

#include "metal_candle/backend/gpu/gpu_backend.h"
#include "tests/gpu_sim/sim_device.h"

namespace metal_candle::gpu_sim {

/// The one instance. Its memory is the CPU backend's; command buffers run where they are committed.
[[nodiscard]] backend::gpu::GpuBackend& sim_backend();

/// Makes it the backend of cuda:0, and says that device.
Device use_sim_backend();

}  // namespace metal_candle::gpu_sim
