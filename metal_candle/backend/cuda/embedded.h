// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the build puts into the library.
#pragma once

namespace metal_candle::backend::cuda {

/// The kernels of kernels.cu for every architecture that was asked for (a fat binary).
[[nodiscard]] const void* kernel_image();
/// The same of elements.cu.
[[nodiscard]] const void* element_image();

/// dialect.h with the CUDA prelude, kernels/common.h and kernels/element_functions.h, as text
/// without includes.
extern const char* const kDialectText;

}  // namespace metal_candle::backend::cuda
