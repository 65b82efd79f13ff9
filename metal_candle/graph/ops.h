// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Every operation on tensors: free functions that build nodes. Shapes, dtypes and devices are
// checked when a function is called; operands on different devices are a DeviceError. All of them
// are thread safe and take no lock.
#pragma once

#include "metal_candle/graph/ops/creation.h"
#include "metal_candle/graph/ops/elementwise.h"
#include "metal_candle/graph/ops/index.h"
#include "metal_candle/graph/ops/layout.h"
#include "metal_candle/graph/ops/linalg.h"
#include "metal_candle/graph/ops/nn.h"
#include "metal_candle/graph/ops/random.h"
#include "metal_candle/graph/ops/reduce.h"
#include "metal_candle/graph/ops/sort.h"
