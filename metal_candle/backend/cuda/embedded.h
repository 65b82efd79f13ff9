// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the build puts into the library.
#pragma once

namespace metal_candle::backend::cuda {

/// The kernels of kernels.cu for every architecture that was asked for (a fat binary).
[[nodiscard]] const void* kernel_image();

/// dialect.h with the CUDA prelude, and kernels/common.h, as text without includes.
extern const char* const kDialectText;

}  // namespace metal_candle::backend::cuda
