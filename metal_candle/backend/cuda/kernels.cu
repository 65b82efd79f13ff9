// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Every kernel of backend/gpu, for nvcc.
#include "metal_candle/backend/gpu/kernels/arg_reduce.h"
#include "metal_candle/backend/gpu/kernels/attention.h"
#include "metal_candle/backend/gpu/kernels/copy.h"
#include "metal_candle/backend/gpu/kernels/cross_entropy.h"
#include "metal_candle/backend/gpu/kernels/cumulative.h"
#include "metal_candle/backend/gpu/kernels/index.h"
#include "metal_candle/backend/gpu/kernels/linear_cross_entropy.h"
#include "metal_candle/backend/gpu/kernels/lora.h"
#include "metal_candle/backend/gpu/kernels/matmul.h"
#include "metal_candle/backend/gpu/kernels/norm.h"
#include "metal_candle/backend/gpu/kernels/random.h"
#include "metal_candle/backend/gpu/kernels/reduce.h"
#include "metal_candle/backend/gpu/kernels/rope.h"
#include "metal_candle/backend/gpu/kernels/softmax.h"
#include "metal_candle/backend/gpu/kernels/sort.h"
#include "metal_candle/backend/gpu/kernels/top_p.h"
