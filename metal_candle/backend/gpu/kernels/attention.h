// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Scaled-dot-product attention and its gradient. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/attention_gradient.h"
#include "metal_candle/backend/gpu/kernels/attention_gradient_tiles.h"
#include "metal_candle/backend/gpu/kernels/attention_gradient_wide.h"
#include "metal_candle/backend/gpu/kernels/attention_one.h"
#include "metal_candle/backend/gpu/kernels/attention_rows.h"
#include "metal_candle/backend/gpu/kernels/attention_tiles.h"
#include "metal_candle/backend/gpu/kernels/attention_wide.h"
