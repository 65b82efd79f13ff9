// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Registers the kernels of element_program.h.
#include "tests/gpu_sim/fibres.h"
// After the prelude.
#include "metal_candle/backend/gpu/kernels/element_program.h"
