// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Registers the kernels of arg_reduce.h.
#include "tests/gpu_sim/fibres.h"
// After the prelude.
#include "metal_candle/backend/gpu/kernels/arg_reduce.h"
