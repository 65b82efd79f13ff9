// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The kernels of backend/gpu that must agree with generated ones to the last bit, for nvcc:
// compiled with -fmad=false, as those are.
#include "metal_candle/backend/gpu/kernels/element_program.h"
