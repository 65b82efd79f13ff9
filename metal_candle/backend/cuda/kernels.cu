// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Every kernel of backend/gpu, for nvcc.
#include "metal_candle/backend/gpu/kernels/attention.h"
#include "metal_candle/backend/gpu/kernels/copy.h"
#include "metal_candle/backend/gpu/kernels/index.h"
#include "metal_candle/backend/gpu/kernels/linear_cross_entropy.h"
#include "metal_candle/backend/gpu/kernels/lora.h"
#include "metal_candle/backend/gpu/kernels/matmul.h"
#include "metal_candle/backend/gpu/kernels/random.h"
