// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Registers the kernels of lora.h and lora_many.h.
#include "tests/gpu_sim/fibres.h"
// After the prelude.
#include "metal_candle/backend/gpu/kernels/lora.h"
#include "metal_candle/backend/gpu/kernels/lora_many.h"
