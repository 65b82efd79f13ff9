// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Registers the kernels of swiglu.h and swiglu_product.h.
#include "tests/gpu_sim/fibres.h"
// After the prelude.
#include "metal_candle/backend/gpu/kernels/swiglu_product.h"
