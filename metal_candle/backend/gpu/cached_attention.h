// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// For gpu_backend.cpp: whether there is a kernel for a step of decoding.
#pragma once

#include <span>

#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/graph/operation.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle::backend::gpu {

/// Whether one kernel does it. What it does not do is better decomposed.
[[nodiscard]] bool suits_cached_attention(const op::CachedAttention& operation,
                                          std::span<const TensorSpec> inputs,
                                          const DeviceLimits& limits);

}  // namespace metal_candle::backend::gpu
