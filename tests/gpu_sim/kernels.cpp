// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The kernels of backend/gpu/kernels/, compiled for the host: including them registers them.
#include "tests/gpu_sim/fibres.h"
