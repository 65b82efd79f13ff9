// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The user's ranges (ProfileScope) in Nsight Systems and other tools that read NVTX.
#pragma once

namespace metal_candle::backend::cuda {

/// Adds a range marker that speaks NVTX, once, if a tool has asked for it: it names its library in
/// NVTX_INJECTION64_PATH. Nothing where this build found no NVTX headers (they come with CUDA 12
/// and later).
void add_nvtx_marker();

}  // namespace metal_candle::backend::cuda
