// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a process waits for once on a GPU, done while it does something else.
#pragma once

#include <functional>
#include <vector>

#include "metal_candle/backend/cuda/cuda_device.h"

namespace metal_candle::backend::cuda {

/// Tasks, to be done in this order on a thread of their own, after which first uses are quick: all
/// kernels of the library are loaded (25 us each), and cuBLASLt has read its tables of f32 and bf16
/// (some 70 ms each) and loaded the kernels of usual products (4 to 25 ms each). They take memory
/// of the device for a moment; where there is none, or on any error, what is left is for first uses
/// to do, and to tell. None throws.
[[nodiscard]] std::vector<std::function<void()>> warm_up_tasks(CudaDevice& device,
                                                               CUlibrary library);

}  // namespace metal_candle::backend::cuda
